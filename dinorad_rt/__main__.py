"""`python -m dinorad_rt`."""

from dinorad_rt.cli.main import main

main()
