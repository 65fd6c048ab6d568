#!/bin/sh
# Starts the stock Triton container's server for others: TLS, a key for operators, nothing that callers do not need.
# compose.yaml and Kubernetes run this same file. Paths and switches come from the environment; the defaults are
# where both mount things.
set -eu

: "${MODEL_REPOSITORY:=/models}"        # a folder, or s3://BUCKET/PREFIX (Triton reads AWS_* itself)
: "${SECRETS:=/run/secrets}"            # tls_certificate, tls_key, client_ca, admin_key
: "${MUTUAL_TLS:=false}"                # true: admit only callers whose certificate client_ca has signed
: "${GPU_METRICS:=false}"               # true where there is a GPU: its use and memory appear among the metrics

# What changes the server needs this key, in the header triton-grpc-protocol-semia-admin-key of each call. Triton takes
# it as an argument only: whoever can list processes inside the container can read it, `docker inspect` cannot.
admin_key=$(cat "$SECRETS/admin_key")
# HTTP answers health checks and nothing else: the other calls need a key that is thrown away right here.
nobodys_key=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')

set -- --model-repository="$MODEL_REPOSITORY"

# --- as `semia serve` does it (a test compares them) ---
# Versions change when an operator says so, never because files do: polling could see half a copy.
set -- "$@" --model-control-mode=explicit --load-model='*'
# One broken model must not take the others down.
set -- "$@" --exit-on-error=false
# What `semia publish` writes is complete; completing it would start every model twice.
set -- "$@" --disable-auto-complete-config
# How long calls under way may delay a stop; stop_grace_period and terminationGracePeriodSeconds are longer.
set -- "$@" --exit-timeout-secs=10

# --- gRPC: what callers use ---
# All of the container's addresses: which of them is reachable is decided outside, by published ports and policies.
set -- "$@" --grpc-address=0.0.0.0 --grpc-port=8001
set -- "$@" --grpc-use-ssl=true --grpc-use-ssl-mutual="$MUTUAL_TLS"
set -- "$@" --grpc-server-cert="$SECRETS/tls_certificate" --grpc-server-key="$SECRETS/tls_key"
set -- "$@" --grpc-root-cert="$SECRETS/client_ca"
# Loading can run code, shared memory reaches into the host, tracing and logging write files.
set -- "$@" --grpc-restricted-protocol="model-repository,shared-memory,trace,logging:semia-admin-key=$admin_key"
# Connections are renewed every ten minutes, so that servers added later get their share. Milliseconds.
set -- "$@" --grpc-max-connection-age=600000 --grpc-max-connection-age-grace=60000

# --- HTTP: health checks, for Kubernetes' gRPC probes know no TLS ---
set -- "$@" --http-address=0.0.0.0 --http-port=8000
set -- "$@" --http-restricted-api="metadata,inference,shared-memory,model-config,model-repository,statistics,trace,logging:nobody=$nobodys_key"

# --- metrics ---
set -- "$@" --metrics-address=0.0.0.0 --metrics-port=8002 --allow-gpu-metrics="$GPU_METRICS"
# Quantiles of latency, over a sliding minute, each with the error allowed in its rank. Off by default.
set -- "$@" --metrics-config=summary_latencies=true
set -- "$@" --metrics-config=summary_quantiles=0.5:0.05,0.95:0.01,0.99:0.001

# Whole dates and times, so that log collectors need not guess the year.
set -- "$@" --log-format=ISO8601

exec tritonserver "$@"
