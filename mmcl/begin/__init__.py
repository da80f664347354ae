"""The first files of a study: a table of what lies in a folder, and a recipe for a table. Files are written for people to change."""
