"""A study a folder: what is measured, its tables, its pictures, and the folder that is written."""
