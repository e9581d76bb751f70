"""Finished models. The folder in the store is complete and verified before its row exists."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.db import Base


class Model(Base):
    """An entry of the registry that a job made; base models have no row."""

    __tablename__ = "models"
    __table_args__ = (Index(None, "tenant_id", "created_at"),)

    id: Mapped[str] = mapped_column(String(160), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    # No foreign key to jobs: a job points at its model too, and a cycle would have no safe order.
    job_id: Mapped[str | None] = mapped_column(String(40), unique=True)
    base: Mapped[str] = mapped_column(String(255))
    task: Mapped[str] = mapped_column(String(64))
    folder: Mapped[str] = mapped_column(String(255), unique=True)
    manifest_sha256: Mapped[str] = mapped_column(String(64))
    manifest: Mapped[dict[str, Any]] = mapped_column(JSON)
    metrics: Mapped[dict[str, float]] = mapped_column(JSON)
    bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[float]
