"""Where the repository's own files are, from any test"""

from pathlib import Path

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf"
CHAT_SERVER = Path(__file__).parent / "chat_server.py"
