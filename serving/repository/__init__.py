"""The model repository: layout, changes that are whole or undone, versions, object stores."""
