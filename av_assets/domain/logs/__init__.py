"""Reading, inspecting, salvaging and ingesting drive logs."""
