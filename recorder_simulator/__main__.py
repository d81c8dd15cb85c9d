import sys

from recorder_simulator.cli import main

sys.exit(main())
