import subprocess
import sys


def test_a_process_that_nobody_asks_in_graphql_does_not_carry_it() -> None:
    code = "import sys, api.app; print([name for name in ('strawberry', 'graphql') if name in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert told.stdout.strip() == "[]"
