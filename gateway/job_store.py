"""Keeps jobs as files, so that they outlive the process. Blocking: called in threads."""

from __future__ import annotations

from pathlib import Path

from google.protobuf.message import DecodeError, Message

from askonce import private
from askonce.v1 import answer_pb2, job_pb2

JOB, REQUEST, DRAFT = ".job", ".request", ".draft"


class JobStore:
    """A folder with two files a job: what was asked, until it is done, and how far it is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str, suffix: str) -> Path:
        """The file of a job; names are checked before they come here."""
        _, tenant, _, job = name.split("/")
        return self.folder / tenant / f"{job}{suffix}"

    def load(self) -> list[job_pb2.Job]:
        """Every job in the folder, which is made where it is missing. Files that can't be read are left alone and out.
        Raises OSError."""
        private.folder(self.folder)
        found = []
        for draft in self.folder.glob(f"*/*{DRAFT}"):  # of a process that was killed
            draft.unlink(missing_ok=True)
        for path in sorted(self.folder.glob(f"*/*{JOB}")):
            try:
                found.append(job_pb2.Job.FromString(path.read_bytes()))
            except (OSError, DecodeError):
                continue
        return found

    def put(self, job: job_pb2.Job) -> None:
        """Writes how far a job is; once it is done, its question goes."""
        self.write(self.path(job.name, JOB), job)
        if job.HasField("end_time"):
            self.path(job.name, REQUEST).unlink(missing_ok=True)

    def put_request(self, name: str, request: answer_pb2.AnswerRequest) -> None:
        """Writes what is asked. Comes before `put`: a stored job has its question."""
        self.write(self.path(name, REQUEST), request)

    def request(self, name: str) -> answer_pb2.AnswerRequest:
        """What a job asks. Raises OSError."""
        return answer_pb2.AnswerRequest.FromString(self.path(name, REQUEST).read_bytes())

    def drop(self, name: str) -> None:
        """Forgets a job."""
        for suffix in (JOB, REQUEST):
            self.path(name, suffix).unlink(missing_ok=True)

    def write(self, path: Path, message: Message) -> None:
        """Writes one file so that readers see all of it or none."""
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(path.suffix + DRAFT)
        draft.write_bytes(message.SerializeToString())
        draft.replace(path)
