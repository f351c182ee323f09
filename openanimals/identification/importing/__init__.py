"""Photographs in: folders, tables, packages and what is in the photographs, to one catalogue."""

from openanimals.identification.importing.importer import Imported, import_catalogue

__all__ = ["Imported", "import_catalogue"]
