"""Finished models in the database, within one tenant."""

from __future__ import annotations

from app.kit.repository import Repository
from app.models.tables import Model


class ModelRepository(Repository[Model]):
    """Finished models of a tenant."""

    table = Model
    noun = "model"

    def add(self, model: Model) -> Model:
        """Insert a model."""
        self.session.add(model)
        self.session.flush()
        return model

    def remove(self, model: Model) -> None:
        """Delete a model's row; its folder is the caller's to remove once this has committed."""
        self.session.delete(model)
        self.session.flush()
