"""Transcripts: read in each format, corrected, and each correction beside what was there before.

GET    /v1/task/{task_id}/transcript             json, txt, srt, vtt, vtt-karaoke, ttml, tsv
PATCH  /v1/task/{task_id}/transcript             corrections: a new version
GET    /v1/task/{task_id}/transcript/versions    all of them
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from cosygate import errors
from cosygate.api.bodies import BodyPace, small_json
from cosygate.api.callers import identify
from cosygate.api.described import problem_responses
from cosygate.api.tasks import ONE, checked, when
from cosygate.flows.editing import Editing
from cosygate.model.editing import Changes, Edit, Version
from cosygate.model.formats import MEDIA_TYPES, Format
from cosygate.model.principal import Scope
from cosygate.ports.callers import Callers

_BODY = 1 << 20  # bytes of a correction: the text of half a day
_MOST = 1_000_000  # beyond every segment's id and version's number


class SegmentEdit(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    id: int = Field(ge=0, le=_MOST, description="Of the segment, in the version `base`.")
    text: str | None = Field(None, description="At most 2,000 characters, or 100 a second; empty: the segment goes.")
    speaker: str | None = Field(None, description="Whose it is: 1 to 64 characters.")


class Correction(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "example": {
                "base": 1,
                "speakers": {"S1": "Anna", "S2": "Anna"},
                "segments": [{"id": 3, "text": "Good morning, Mr Dashwood."}, {"id": 4, "speaker": "Ben"}],
            }
        },
    )
    base: int = Field(ge=1, le=_MOST, description="The version that was corrected: the newest one.")
    speakers: dict[str, str] = Field({}, description="Names before and after, everywhere; two to one: merged.")
    segments: list[SegmentEdit] = Field([], description="Those that change. Done after `speakers`.")
    restore: int | None = Field(None, ge=1, le=_MOST, description="Alone: all as in this earlier version.")

    def changes(self) -> Changes:
        """Raises Invalid."""
        if self.restore is not None and (self.speakers or self.segments):
            raise errors.Invalid("restore goes alone")
        if self.restore is None and not self.speakers and not self.segments:
            raise errors.Invalid("nothing is corrected")
        edits = tuple(Edit(edit.id, edit.text, edit.speaker) for edit in self.segments)
        return Changes(self.speakers, edits, self.restore)


class VersionView(BaseModel):
    version: int = Field(description="1: the recogniser's own.")
    created_at: datetime
    by: str | None = Field(None, description="Who saved it: the token's subject.")
    restores: int | None = Field(None, description="The earlier version that it is again.")


class VersionList(BaseModel):
    versions: list[VersionView] = Field(description="Oldest first.")


def _view(version: Version) -> VersionView:
    return VersionView(
        version=version.number, created_at=when(version.created_at), by=version.by, restores=version.restores
    )


_TRANSCRIPT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The transcript in the wanted format.",
        "content": {kind.split(";")[0]: {} for kind in MEDIA_TYPES.values()},
    }
}
_CORRECTION = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": Correction.model_json_schema(
        ref_template="#/components/schemas/{model}")}}}
}  # fmt: skip


def router(editing: Editing, callers: Callers, pace: BodyPace) -> APIRouter:
    routes = APIRouter(tags=["Tasks"], responses=problem_responses(401, 403, 404, 409, 429, 503))
    one = f"{ONE}/transcript"

    @routes.get(one, responses=_TRANSCRIPT, response_class=Response)
    async def transcript(
        request: Request,
        task_id: str,
        format: Format = Format.JSON,  # noqa: A002 - the API's name
        version: Annotated[int | None, Query(ge=1, le=_MOST)] = None,
    ) -> Response:
        """The transcript in one of its formats: as it was corrected last, or the `version` asked for. 409 while there
        is none."""
        caller = await identify(request, callers, Scope.TASK_READ)
        text = await editing.written(caller, checked(task_id), format, version)
        return Response(text, media_type=MEDIA_TYPES[format])

    @routes.patch(
        one,
        responses=problem_responses(400, 408, 413, 422, 507),
        openapi_extra=_CORRECTION,
        response_model_exclude_none=True,
    )
    async def correct(request: Request, task_id: str) -> VersionView:
        """Corrects names of speakers, whose segments are, and what was said: a new version, beside all before."""
        caller = await identify(request, callers, Scope.AUDIO_WRITE)
        body = await small_json(request, pace, Correction, _BODY)
        return _view(await editing.save(caller, checked(task_id), body.base, body.changes()))

    @routes.get(f"{one}/versions", response_model_exclude_none=True)
    async def versions(request: Request, task_id: str) -> VersionList:
        """Every version there is: the recogniser's, and each correction."""
        caller = await identify(request, callers, Scope.TASK_READ)
        return VersionList(versions=[_view(v) for v in await editing.versions(caller, checked(task_id))])

    return routes
