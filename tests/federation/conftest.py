from tests.harness.databases import make_url_of, postgres

__all__ = ["make_url_of", "postgres"]
