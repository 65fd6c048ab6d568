"""A local copy of a model repository in an object store, checked against the model cards.

Triton can read a store itself, and takes what is there. `semia serve` downloads what the repository's configurations
name, compares every file with its card, and serves the copy: what was damaged or exchanged on the way stays out. What
is there already is not downloaded again, and a start without the store fails rather than serve something that may have
been replaced.
"""

import fcntl
import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from semia.core.errors import InputError
from semia.core.files import sha256_of_file, sync_path
from semia.core.model_card import CARD_FILE, MODEL_FILE, ModelCard, described_sha256
from semia.serving.errors import RepositoryError
from semia.serving.model_config import CARD_HASH_PARAMETER
from semia.serving.repository.layout import VERSION_NAME
from semia.serving.repository.object_store import ObjectRepository
from semia.serving.repository.transaction import CONFIG_FILE

REPOSITORY = "model_repository"
LOCK_FILE = ".lock"


def cache_folder(url: str) -> Path:
    """Where this user's copy of the repository at ``url`` is: below ``$XDG_CACHE_HOME``, by default ``~/.cache``."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return caches / "semia" / hashlib.sha256(url.encode()).hexdigest()[:16]


def mirror(source: ObjectRepository, cache: Path) -> tuple[Path, dict[str, str]]:
    """Bring a local copy of a repository up to date.

    Each model is downloaded beside the copy, checked, and renamed into it. One that cannot be had or is not what
    its card says stays as it was in the copy, or stays out; what is no longer in the store goes. Of several
    processes each waits for the one before it.

    Args:
        source: the repository.
        cache: folder for the copy and what is staged for it, made if need be.

    Returns:
        The copy, a model repository; and by name of the model, why it could not be brought up to date.

    Raises:
        RepositoryError: if the store does not answer or refuses, or the copy cannot be written.
    """
    repository = cache / REPOSITORY
    try:
        repository.mkdir(parents=True, exist_ok=True)
        with (cache / LOCK_FILE).open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return repository, _mirror(source, repository)
    except OSError as error:
        raise RepositoryError(f"cannot copy {source.url} to {cache}: {error}") from error


def _mirror(source: ObjectRepository, repository: Path) -> dict[str, str]:
    for stale in repository.parent.glob("*.partial"):
        shutil.rmtree(stale, ignore_errors=True)  # the lock's holder is the only writer
    configs = source.read_configs()
    for folder in repository.iterdir():
        if folder.is_dir() and folder.name not in configs:
            shutil.rmtree(folder)
    problems = {}
    for name, config in configs.items():
        model = repository / name
        if config is not None and (model / CONFIG_FILE).is_file() and (model / CONFIG_FILE).read_bytes() == config:
            try:
                check_model(model)
                continue
            except InputError:
                pass  # the copy has been damaged: fetch it anew
        with tempfile.TemporaryDirectory(suffix=".partial", dir=repository.parent) as staging:
            fetched = Path(staging) / name
            fetched.mkdir()
            try:
                source.fetch_model(name, fetched)
                check_model(fetched)
            except InputError as error:
                problems[name] = str(error)
                continue
            for path in [*fetched.rglob("*"), fetched]:
                sync_path(path)
            if model.exists():
                model.rename(Path(staging) / "replaced")
            fetched.rename(model)
            sync_path(repository)
    return problems


def check_model(model: Path) -> None:
    """Compare the one version in a model's folder with its card, and the card with the configuration.

    Raises:
        InputError: if they do not belong together; it names the file.
    """
    versions = [path for path in model.iterdir() if VERSION_NAME.fullmatch(path.name)]
    if len(versions) != 1:
        raise RepositoryError(f"{model.name} has {len(versions)} versions, not the one that is served")
    (version,) = versions
    card = ModelCard.read(version / CARD_FILE)
    try:
        config = text_format.Parse((model / CONFIG_FILE).read_text(encoding="utf-8"), pb.ModelConfig())
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise RepositoryError(f"{model.name}/{CONFIG_FILE} cannot be read: {error}") from error
    served = config.default_model_filename or MODEL_FILE
    expected = {
        CARD_FILE: config.parameters[CARD_HASH_PARAMETER].string_value,
        served: described_sha256(served, card),
    }
    for file, sha256 in expected.items():
        if Path(file).name != file or not (version / file).is_file():
            raise RepositoryError(f"{model.name}/{version.name} has no {file}")
        if sha256_of_file(version / file) != sha256:
            raise RepositoryError(
                f"{model.name}/{version.name}/{file} is not what was published (another SHA-256): publish it again"
            )
