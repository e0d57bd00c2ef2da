"""`python -m av_assets.cli` is `av`."""

from av_assets.cli.main import main

main()
