"""Brings the database of a ZenML server to the schema of the release that runs this.

What is there is backed up and the backup verified first. Whatever fails afterwards, the backup is put back; if this
process is killed before it could, the next run does it first. Exit codes: 0 done; 3 failed, and trying again changes
nothing; 4 not even begun, as the database cannot be reached, say.

The report, one JSON object, holds no value of a secret: of an error its first line, with what is secret in the
environment blotted out.
"""

import argparse
import contextlib
import json
import os
import re
import signal
import sys

DONE, FAILED, NOT_BEGUN = 0, 3, 4

# What marks that the database may be half changed.
MARK = "zenop_migration"


class Refused(Exception):
    """It is not to be done, and nothing was."""


class Stopped(Exception):
    """Somebody asked to stop."""


def say(text):
    print(text, flush=True)


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--backup", choices=["None", "Dump", "Database"], required=True)
    parser.add_argument("--file", help="of a Dump")
    parser.add_argument("--allow-downgrade", action="store_true")
    parser.add_argument("--report", required=True)
    return parser.parse_args()


def open_store(changes):
    """The store. With `changes` ZenML migrates it and makes what every server has."""
    from zenml.config.global_config import GlobalConfiguration
    from zenml.zen_stores.base_zen_store import BaseZenStore

    configuration = GlobalConfiguration().store_configuration
    return BaseZenStore.create_store(
        configuration, skip_default_registrations=not changes, skip_migrations=not changes
    )


def tables(engine):
    from sqlalchemy import inspect

    return set(inspect(engine).get_table_names())


def revision(engine):
    """The revision of a database's schema, if it has one."""
    from sqlalchemy import text

    if "alembic_version" not in tables(engine):
        return None
    with engine.connect() as connection:
        return connection.scalar(text("SELECT version_num FROM alembic_version"))


def counts(engine):
    """How many rows each table has."""
    from sqlalchemy import MetaData, func, select

    metadata = MetaData()
    metadata.reflect(bind=engine)
    with engine.connect() as connection:
        rows = {
            table.name: connection.scalar(select(func.count()).select_from(table))
            for table in metadata.sorted_tables
        }
    rows.pop(MARK, None)
    return rows


def empty(engine):
    from sqlalchemy import MetaData

    metadata = MetaData()
    metadata.reflect(bind=engine)
    metadata.drop_all(bind=engine)


class NoBackup:
    where = None

    def is_marked(self):
        return False

    def revision(self):
        return None

    def make(self):
        say("no backup: none is wanted")

    def mark(self):
        pass

    def unmark(self):
        pass

    def restore(self):
        raise Refused("there is no backup to put back: the database may be half changed")


class Backup(NoBackup):
    """A backup by ZenML's own means."""

    def __init__(self, store, strategy, where):
        from zenml.enums import DatabaseBackupStrategy

        self.store = store
        self.where = where
        self.means = store.initialize_database_backup_engine(
            strategy=DatabaseBackupStrategy[strategy], location=where
        )

    def make(self):
        say(f"backing up to {self.where}")
        before = counts(self.store.engine)
        self.means.backup_database(overwrite=True)
        after, kept = counts(self.store.engine), self.counts()
        # The pods of the release before may write meanwhile.
        wrong = [
            name
            for name in before.keys() | kept.keys()
            if name not in kept
            or name not in before
            or not min(before[name], after[name]) <= kept[name] <= max(before[name], after[name])
        ]
        if wrong:
            raise Refused(f"the backup differs from the database in {', '.join(sorted(wrong))}")
        say(f"verified it: {sum(kept.values())} rows in {len(kept)} tables")

    def restore(self):
        say(f"putting back {self.where}")
        self.store.engine.dispose()
        self.means.restore_database(cleanup=False)
        self.store.engine.dispose()
        self.unmark()


class Dump(Backup):
    """A file: a copy of that of SQLite, or a dump."""

    def __init__(self, store, file):
        super().__init__(store, "DUMP_FILE", file)
        self.is_sqlite = self.means.url.drivername == "sqlite"

    def _engine(self):
        from sqlalchemy import create_engine

        return create_engine(f"sqlite:///{self.where}")

    def _rows(self):
        with open(self.where) as file:
            yield from self.means.load_database_data(dump_file=file)

    def counts(self):
        if self.is_sqlite:
            from sqlalchemy import text

            with self._engine().connect() as connection:
                health = connection.scalar(text("PRAGMA integrity_check"))
            if health != "ok":
                raise Refused(f"the backup is damaged: {health}")
            return counts(self._engine())
        kept = {}
        for part in self._rows():
            kept[part["table"]] = kept.get(part["table"], 0) + len(part.get("data", []))
        return kept

    def revision(self):
        if not os.path.isfile(self.where):
            return None
        if self.is_sqlite:
            return revision(self._engine())
        for part in self._rows():
            for row in part.get("data", []):
                if part["table"] == "alembic_version":
                    return row["version_num"]
        return None

    def restore(self):
        if self.is_sqlite:
            # What an interrupted change left would be played back into the file that is put here.
            for rest in ("-journal", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    os.remove(self.means.url.database + rest)
        super().restore()

    def is_marked(self):
        return os.path.exists(f"{self.where}.{MARK}")

    def mark(self):
        with open(f"{self.where}.{MARK}", "w") as file:
            os.fsync(file.fileno())

    def unmark(self):
        with contextlib.suppress(FileNotFoundError):
            os.remove(f"{self.where}.{MARK}")


class Database(Backup):
    """Another database of the same server."""

    def __init__(self, store):
        super().__init__(store, "DATABASE", f"{store.config.database}_zenop_backup")

    def _engine(self):
        return self.means.create_engine(database=self.where)

    def _is_there(self):
        return self.means.database_exists(database=self.where)

    def counts(self):
        return counts(self._engine())

    def revision(self):
        return revision(self._engine()) if self._is_there() else None

    def is_marked(self):
        return self._is_there() and MARK in tables(self._engine())

    def mark(self):
        self._do(self._engine(), f"CREATE TABLE {MARK} (id INT PRIMARY KEY)")

    def unmark(self):
        for engine in (self.store.engine, self._engine()):
            self._do(engine, f"DROP TABLE IF EXISTS {MARK}")

    def _do(self, engine, statement):
        from sqlalchemy import text

        with engine.begin() as connection:
            connection.execute(text(statement))


def backup_of(store, given):
    if given.backup == "Dump":
        return Dump(store, given.file)
    if given.backup == "Database":
        return Database(store)
    return NoBackup()


@contextlib.contextmanager
def alone(store):
    """Nobody else migrates this database meanwhile. Of SQLite the volume sees to it."""
    from sqlalchemy import text

    if store.engine.dialect.name != "mysql":
        yield
        return
    name = f"zenop.{store.config.database}"
    with store.engine.connect() as connection:
        if connection.scalar(text("SELECT GET_LOCK(:name, 0)"), {"name": name}) != 1:
            raise Refused("somebody else migrates this database at this moment")
        yield


def migrate(given, report):
    store = open_store(changes=False)
    with alone(store):
        report["begun"] = True
        backup = backup_of(store, given)
        if backup.is_marked():
            say("a migration was cut off")
            backup.restore()
        scripts = store.alembic.script_directory

        def knows(one):
            from alembic.util import CommandError

            try:
                return scripts.get_revision(one) is not None
            except CommandError:
                return False

        head = scripts.get_current_head()
        was = revision(store.engine)
        report["from"], report["to"] = was, was
        say(f"the database is at {was or 'nothing yet'}, this release wants {head}")
        makes_backup = was is not None and was != head
        if was is not None and not knows(was):
            kept = backup.revision()
            if not given.allow_downgrade:
                raise Refused(
                    f"the database is at {was}, which this release does not know: it is older. Take a newer image, "
                    "or set spec.migration.allowDowngrade to have the last backup put back, if this release knows that"
                )
            if kept is None or not knows(kept):
                raise Refused(f"the database is at {was}, and there is no backup that this release knows")
            backup.restore()
            was, makes_backup = kept, False
            report["to"] = kept
        if makes_backup:
            backup.make()
            report["backup"] = backup.where
        change(store, backup, was, head, report)


def change(store, backup, was, head, report):
    """From `was` to `head`, or back."""
    was_empty = not tables(store.engine)
    store.engine.dispose()
    if was is not None and was != head:
        backup.mark()
    try:
        changed = open_store(changes=True)
        now = revision(changed.engine)
        if now != head:
            raise Refused(f"the database is at {now} and not at {head}")
        if was is not None:
            backup.unmark()
        report["to"] = now
        say(f"the database is at {now}")
    except BaseException:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        say("it failed")
        if was is not None and was != head:
            backup.restore()
            say(f"the database is at {revision(store.engine)} again")
        elif was_empty:
            # So that the next try finds what this one found.
            empty(store.engine)
        raise


def blotted(error):
    """The first line of an error, without anything secret."""
    line = f"{type(error).__name__}: {error}".splitlines()[0]
    for name, value in os.environ.items():
        if re.search("PASSWORD|SECRET|TOKEN|KEY|URL|USERNAME", name) and len(value) > 3:
            line = line.replace(value, "***")
    return re.sub(r"://[^/@\s]*@", "://***@", line)[:600]


def stop(_signal, _frame):
    raise Stopped("it took too long, or its pod was asked to end")


def main():
    given = arguments()
    # It is done here, and before anything is changed.
    os.environ["ZENML_STORE_BACKUP_STRATEGY"] = "disabled"
    os.environ["ZENML_ANALYTICS_OPT_IN"] = "false"
    signal.signal(signal.SIGTERM, stop)
    report, code = {}, DONE
    try:
        migrate(given, report)
    except Exception as error:
        code = FAILED if report.get("begun") else NOT_BEGUN
        report["message"] = blotted(error)
        say(report["message"])
    with open(given.report, "w") as file:
        json.dump(report, file)
    return code


if __name__ == "__main__":
    sys.exit(main())
