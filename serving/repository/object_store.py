"""A model repository in an object store, ``s3://BUCKET/PREFIX``: publishing to it, listing it, mirroring it.

Its layout is a local repository's. A store has no rename and no lock, but single objects appear whole or not
at all, and can be written on the condition that they do not exist yet. So a version is published in this order::

    1. NAME/VERSION/model_card.json    only if it does not exist: its writer owns the version's number
    2. NAME/VERSION/model.onnx         (or model.plan)
    3. NAME/config.pbtxt               names the version that it belongs to, and takes the place of an older one

Servers go by config.pbtxt, whose version policy names one version; replacing that one object publishes. A
publisher that is killed before leaves a version which no configuration names and no server loads: the next
publisher takes the next number, and removes what has been lying about for a day.

Triton can read a store itself, and takes what is there. `semia serve` downloads what the configurations name, compares
every file with its card, and serves the copy: what was damaged or exchanged on the way stays out. What is there already
is not downloaded again, and a start without the store fails rather than serve something that may have been replaced.
"""

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from semia.core.errors import InputError
from semia.core.files import MODEL_NAME, sync_path
from semia.core.model_card import CARD_FILE, MODEL_FILE, PLAN_FILE, hash_problem
from semia.core.staging import lock_file, private_directory, temporary_directory
from semia.serving.errors import PublishError, RepositoryError
from semia.serving.model_config import ServingSettings, parse_config
from semia.serving.repository.layout import (
    VERSION_NAME,
    RepositoryModel,
    check_classes,
    list_models,
    read_bundle_card,
    read_newest,
    settings_or_defaults,
    versions_of,
)
from semia.serving.repository.lifecycle import publish
from semia.serving.repository.transaction import CONFIG_FILE

SCHEME = "s3://"

BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")

VERSION_FILES = (CARD_FILE, MODEL_FILE, PLAN_FILE)
"""What a version consists of; objects of other names are no business of ours."""

ABANDONED_AFTER = timedelta(days=1)
"""How long the files of a version that no configuration has reached lie before they are removed: no publisher
takes that long."""

ABSENT = {"IfNoneMatch": "*"}  # the condition that an object does not exist yet, as S3's PutObject takes it

REPOSITORY = "model_repository"
LOCK_FILE = ".lock"


@dataclass(frozen=True)
class StoredVersion:
    """Where a bundle went."""

    name: str  # the served model's name
    version: int  # counted from 1
    url: str  # s3://BUCKET/PREFIX/NAME/VERSION
    serving: int  # the version that config.pbtxt names: another publisher's where that came later, else `version`
    exclusive: bool  # whether the store keeps conditions; where it does not, two publishers at once can mix versions up


@dataclass
class StoredModel:
    """The objects of one model."""

    config: bool = False  # whether there is a config.pbtxt
    versions: dict[int, dict[str, Any]] = field(default_factory=dict)  # the store's entries by file name, by version


def is_object_store(location: str) -> bool:
    """Whether a repository's location is an address, not a folder."""
    return "://" in location


class ObjectRepository:
    """The model repository at ``s3://BUCKET/PREFIX``; the bucket must exist.

    Address, region and credentials are the AWS tools' own: ``AWS_ENDPOINT_URL``, ``AWS_REGION``,
    ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_PROFILE``, ``~/.aws``, or the machine's role.

    Raises:
        InputError: if ``url`` is no such address.
        RepositoryError: if the libraries are missing; from every method, if the store does not answer, or refuses.
    """

    def __init__(self, url: str) -> None:
        bucket, _, prefix = url.removeprefix(SCHEME).rstrip("/").partition("/")
        parts = prefix.split("/") if prefix else []
        if not url.startswith(SCHEME) or not BUCKET_NAME.fullmatch(bucket) or {"", ".", ".."} & {*parts}:
            raise InputError(f"{url!r} is not a repository in an object store: write s3://BUCKET or s3://BUCKET/PREFIX")
        self.url = SCHEME + "/".join([bucket, *parts])
        self._root = self.url.removeprefix(SCHEME)
        try:
            import fsspec
            import s3fs  # noqa: F401 - fsspec finds it by name; here it is missed by name
        except ImportError as error:
            raise RepositoryError(f"{url} needs {error.name}: pip install 'semia[storage]'") from error
        self._store: Any = fsspec.filesystem(
            "s3",
            # Other publishers write too: what was listed a moment ago is never taken for true.
            use_listings_cache=False,
            skip_instance_cache=True,
            # s3fs tries again, and botocore below it would do so for every one of its attempts.
            config_kwargs={"retries": {"total_max_attempts": 1}},
        )

    def publish(
        self,
        bundle: Path,
        *,
        name: str | None = None,
        settings: ServingSettings | None = None,
        change_classes: bool = False,
    ) -> StoredVersion:
        """Add a bundle as a new model or the next version of one, checked and laid out as `semia.serving.publish` does.

        Arguments and errors are as there; a PublishError says that the store refuses. Servers see the version whole
        or not at all. Of publishers at once, each gets a version of its own, and the newest is served.
        """
        card = read_bundle_card(bundle, name)
        served_as = card.name
        with temporary_directory("publishing") as folder:
            try:
                settings = settings or self.present_settings(served_as)
                if not change_classes:
                    check_classes(self._present_config(served_as), card)
                staged = publish(bundle, folder / "model_repository", name=name, settings=settings)
                config = (staged.folder.parent / CONFIG_FILE).read_text(encoding="utf-8")
                with _translated_errors(self.url):
                    number, exclusive = self._claim_version(staged.name, (staged.folder / CARD_FILE).read_bytes())
                    for file in sorted(staged.folder.iterdir()):
                        if file.name != CARD_FILE:
                            self._store.put_file(str(file), self._key(staged.name, str(number), file.name))
                    serving = self._replace_config(staged.name, number, pin_version(config, number))
                    self._remove_abandoned(staged.name, serving)
            except RepositoryError as error:
                raise PublishError(f"cannot publish {served_as!r}: {error}") from error
        url = SCHEME + self._key(staged.name, str(number))
        return StoredVersion(staged.name, number, url, serving, exclusive)

    def present_settings(self, name: str) -> ServingSettings:
        """How a model is run now, as `semia.serving.present_settings` says it of a folder's."""
        return settings_or_defaults(self._present_config(name), SCHEME + self._key(name, CONFIG_FILE))

    def _present_config(self, name: str) -> str:
        """A model's config.pbtxt; empty for a model that is not there."""
        with _translated_errors(self.url):
            try:
                content: bytes = self._store.cat_file(self._key(name, CONFIG_FILE))
            except FileNotFoundError:
                return ""
        return content.decode("utf-8", errors="replace")

    def list_models(self) -> list[RepositoryModel]:
        """The models by name, as `semia.serving.list_models` lists a folder's; a broken one comes with its problem.

        Only configurations and cards are fetched.
        """
        with temporary_directory("listing") as repository, _translated_errors(self.url):
            for name, model in self._models().items():
                (repository / name).mkdir()
                pinned = None
                if model.config:
                    config = self._store.cat_file(self._key(name, CONFIG_FILE))
                    (repository / name / CONFIG_FILE).write_bytes(config)
                    pinned = pinned_version(config.decode("utf-8", errors="replace"))
                for version, files in model.versions.items():
                    # A version beyond the configuration's is being published, or never was.
                    if pinned is None or version <= pinned:
                        self._outline(name, version, files, repository / name / str(version))
            return list_models(repository)

    def fetch_model(self, name: str, folder: Path) -> None:
        """Download the version that a model's configuration names, with the configuration, into an empty folder.

        Raises:
            RepositoryError: if the store lacks something of it.
        """
        with _translated_errors(self.url):
            model = self._model(name)
            if not model.config:
                raise RepositoryError(f"{SCHEME}{self._key(name)} has no {CONFIG_FILE}")
            config = self._store.cat_file(self._key(name, CONFIG_FILE))
            version = pinned_version(config.decode("utf-8", errors="replace")) or max(model.versions, default=0)
            if version not in model.versions:
                raise RepositoryError(f"{SCHEME}{self._key(name)} lacks the version that its {CONFIG_FILE} names")
            (folder / str(version)).mkdir()
            for file in model.versions[version]:
                self._store.get_file(self._key(name, str(version), file), str(folder / str(version) / file))
            (folder / CONFIG_FILE).write_bytes(config)

    def read_configs(self) -> dict[str, bytes | None]:
        """Every model's config.pbtxt by the model's name; None where there is none."""
        with _translated_errors(self.url):
            models = self._models()
            keys = {name: self._key(name, CONFIG_FILE) for name, model in models.items() if model.config}
            configs = self._store.cat([*keys.values()]) if keys else {}  # many at once
            return {name: configs[keys[name]] if name in keys else None for name in models}

    def _key(self, *parts: str) -> str:
        return "/".join([self._root, *parts])

    def _model(self, name: str) -> StoredModel:
        """The objects of one model, of which there may be none."""
        return self._models(name).get(name, StoredModel())

    def _models(self, *below: str) -> dict[str, StoredModel]:
        """All objects that are a model's, by the model's name; names that are not ours never become paths."""
        models: dict[str, StoredModel] = {}
        for key, entry in sorted(self._store.find(self._key(*below), detail=True).items()):
            name, *rest = key.removeprefix(self._root + "/").split("/")
            if not MODEL_NAME.fullmatch(name):
                continue
            if rest == [CONFIG_FILE]:
                models.setdefault(name, StoredModel()).config = True
            elif len(rest) == 2 and VERSION_NAME.fullmatch(rest[0]) and rest[1] in VERSION_FILES:
                models.setdefault(name, StoredModel()).versions.setdefault(int(rest[0]), {})[rest[1]] = entry
        return models

    def _claim_version(self, name: str, card: bytes) -> tuple[int, bool]:
        """Write the card of the next free version; also whether the store honors conditions."""
        version = max(self._model(name).versions, default=0) + 1
        while not self._write(self._key(name, str(version), CARD_FILE), card, **ABSENT):
            version += 1
        # A store that does not know conditions takes the same object twice.
        return version, not self._write(self._key(name, str(version), CARD_FILE), card, **ABSENT)

    def _write(self, key: str, content: bytes, **condition: str) -> bool:
        """Write an object on a condition; False if it does not hold."""
        from botocore.exceptions import ClientError

        try:
            self._store.pipe_file(key, content, **condition)
        except (OSError, ClientError) as error:
            response = getattr(error.__cause__ or error, "response", {})
            # 409: another publisher is writing it at this moment.
            if response.get("ResponseMetadata", {}).get("HTTPStatusCode") in (409, 412):
                return False
            raise
        return True

    def _replace_config(self, name: str, version: int, config: str) -> int:
        """Make a version the served one, unless a newer one is; returns the served one."""
        key = self._key(name, CONFIG_FILE)
        while True:
            condition = ABSENT
            with contextlib.suppress(FileNotFoundError):
                # The tag comes first: if the object changes before it is read, the condition fails.
                condition = {"IfMatch": self._store.info(key)["ETag"]}
                serving = pinned_version(self._store.cat_file(key).decode("utf-8", errors="replace"))
                if serving is not None and serving > version:
                    return serving
            if self._write(key, config.encode(), **condition):
                return version

    def _outline(self, name: str, version: int, files: dict[str, Any], folder: Path) -> None:
        """A version's card, and beside it empty files as long as the ones in the store."""
        folder.mkdir()
        for file, entry in files.items():
            (folder / file).touch()
            os.truncate(folder / file, entry["size"])
        if CARD_FILE in files:
            self._store.get_file(self._key(name, str(version), CARD_FILE), str(folder / CARD_FILE))

    def _remove_abandoned(self, name: str, serving: int) -> None:
        """Remove versions that have no model, are older than the served one, and were abandoned by their publisher."""
        for version, files in self._model(name).versions.items():
            whole = {MODEL_FILE, PLAN_FILE} & files.keys() and CARD_FILE in files
            idle = datetime.now(UTC) - max(entry["LastModified"] for entry in files.values())
            if version < serving and not whole and idle > ABANDONED_AFTER:
                for file in files:
                    self._store.rm_file(self._key(name, str(version), file))


def pin_version(config: str, version: int) -> str:
    """A config.pbtxt that names the one version it belongs to; its comments stay."""
    parsed = text_format.Parse(config, pb.ModelConfig())
    parsed.version_policy.CopyFrom(pb.ModelVersionPolicy(specific=pb.ModelVersionPolicy.Specific(versions=[version])))
    comments = "".join(line for line in config.splitlines(keepends=True) if line.startswith("#"))
    return comments + text_format.MessageToString(parsed)


def pinned_version(config: str) -> int | None:
    """The version that a config.pbtxt names; None if it names none, or several, or cannot be read."""
    try:
        versions = parse_config(config).version_policy.specific.versions
    except text_format.ParseError:
        return None
    return versions[0] if len(versions) == 1 else None


@contextlib.contextmanager
def _translated_errors(url: str) -> Iterator[None]:
    """Say what is wrong with a store in one line, by a `RepositoryError`."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    try:
        yield
    except NoCredentialsError as error:
        raise RepositoryError(
            f"no credentials for {url}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        ) from error
    except (OSError, BotoCoreError, ClientError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RepositoryError(f"the object store refuses {url}, or does not answer: {reason}") from error


def cache_folder(url: str) -> Path:
    """Where this user's copy of the repository at ``url`` is: below ``$XDG_CACHE_HOME``, by default ``~/.cache``."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return caches / "semia" / hashlib.sha256(url.encode()).hexdigest()[:16]


def mirror(source: ObjectRepository, cache: Path) -> tuple[Path, dict[str, str]]:
    """Bring a local copy of a repository, in the folder ``cache``, up to date.

    Each model is downloaded beside the copy, checked, and renamed into it. One that cannot be had or is not what
    its card says stays as it was in the copy, or stays out; what is no longer in the store goes. Of several
    processes each waits for the one before it.

    Returns:
        The copy, a model repository; and by name of the model, why it could not be brought up to date.

    Raises:
        RepositoryError: if the store does not answer or refuses, or the copy cannot be written.
    """
    repository = cache / REPOSITORY
    try:
        repository.mkdir(parents=True, exist_ok=True)
        lock = lock_file(cache / LOCK_FILE)
        assert lock is not None, "nobody removes it"
        with lock:
            return repository, _mirror(source, repository)
    except OSError as error:
        raise RepositoryError(f"cannot copy {source.url} to {cache}: {error}") from error


def _mirror(source: ObjectRepository, repository: Path) -> dict[str, str]:
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
        with private_directory(repository.parent, "fetched-") as staging:
            fetched = staging / name
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
                model.rename(staging / "replaced")
            fetched.rename(model)
            sync_path(repository)
    return problems


def check_model(model: Path) -> None:
    """Compare the one version in a model's folder with its card, and the card with the configuration.

    Raises:
        InputError: if they do not belong together; it names the file.
    """
    versions = versions_of(model)
    if len(versions) != 1:
        raise RepositoryError(f"{model.name} has {len(versions)} versions, not the one that is served")
    card, served = read_newest(model)
    if hash_problem(served, card):
        raise RepositoryError(
            f"{served.relative_to(model.parent)} is not what was published (another SHA-256): publish it again"
        )
