import pytest

# It asserts for all tests, and is to say in what twins differ.
pytest.register_assert_rewrite("semantics.deployment")
