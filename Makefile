# make demo: the main job on local Spark.  make test: the tests.  Both set everything up first where it is missing.
.DELETE_ON_ERROR:
.PHONY: demo test test-matrix lint doctor miniature quality lock clean bench-ingest bench-caption-overhead bench-captioner bench-fetch bench-checkpoint-memory bench-engine-idle

PYTHON_HERE := .venv/bin/python

.venv/installed.lock: setup/requirements.lock setup/installer.lock setup/environment.sh pyproject.toml
	sh setup/environment.sh

demo: .venv/installed.lock
	.venv/bin/recap-spark demo

test: .venv/installed.lock
	$(PYTHON_HERE) -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

# On each supported Spark, Delta and Python: some minutes, and some gigabytes below build/matrix.
test-matrix: .venv/installed.lock
	sh setup/matrix.sh

lint: .venv/installed.lock
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

doctor: .venv/installed.lock
	.venv/bin/recap-spark doctor

miniature: .venv/installed.lock
	$(PYTHON_HERE) -m recap_spark.miniature.build

quality: .venv/installed.lock
	$(PYTHON_HERE) -m recap_spark.miniature.quality

bench-ingest: .venv/installed.lock
	$(PYTHON_HERE) benchmarks/ingest.py

bench-caption-overhead: .venv/installed.lock
	$(PYTHON_HERE) benchmarks/caption_overhead.py

bench-captioner: .venv/installed.lock
	$(PYTHON_HERE) benchmarks/captioner.py

# Wants img2dataset in a virtual environment of its own: IMG2DATASET_PYTHON=…/bin/python make bench-fetch
bench-fetch: .venv/installed.lock
	$(PYTHON_HERE) benchmarks/fetch.py

bench-engine-idle: .venv/installed.lock
	$(PYTHON_HERE) benchmarks/engine_idle.py

bench-checkpoint-memory: .venv/installed.lock
	$(PYTHON_HERE) benchmarks/checkpoint_memory.py

# After a change of pyproject.toml's dependencies. No addresses of registries go into the lock.
lock: .venv/installed.lock
	.venv/installer/bin/uv pip compile pyproject.toml --extra caption --extra local --extra train --extra dev --python-version 3.11 \
	  --python-platform x86_64-unknown-linux-gnu --generate-hashes --no-emit-index-url --no-header --no-annotate \
	  --output-file setup/requirements.lock

# The lake holds your tables: it is not make's to remove.
clean:
	rm -rf .venv
