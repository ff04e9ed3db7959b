"""``data list | fetch NAME | info NAME``."""

from __future__ import annotations

from ..shown import for_terminal
from .options import add_command, add_load_options, load_options

_EXAMPLES = """  python -m c2f_np data list
  python -m c2f_np data fetch ml-100k
  python -m c2f_np data info planted
  python -m c2f_np data info clicks.csv --user-column visitor --item-column product
"""


def add_to(commands) -> None:
    parser = add_command(commands, "data", None, "list, fetch and describe data sets", _EXAMPLES)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="the data sets that are known by name")
    listing.add_argument("--cache-dir", metavar="DIR", help="folder of fetched data")
    listing.set_defaults(run=list_data)
    fetching = actions.add_parser("fetch", help="download a data set, unless it is there")
    fetching.add_argument("name", metavar="NAME")
    fetching.add_argument("--cache-dir", metavar="DIR", help="folder to keep it in")
    fetching.add_argument("--base-url", metavar="URL", help="a mirror to fetch from")
    fetching.add_argument("--quiet", action="store_true", help="no progress bar")
    fetching.set_defaults(run=fetch_data)
    describing = actions.add_parser("info", help="what a data set holds")
    describing.add_argument("data", metavar="DATA", help="a data set's name, or the path of a file or folder")
    add_load_options(describing)
    describing.set_defaults(run=describe_data)


def list_data(options) -> int:
    from ..data import cached, list_datasets

    for known in list_datasets():
        where = "shipped" if known.is_shipped else "fetched" if cached(known.name, options.cache_dir) else "to be fetched"
        print(f"{known.name:<16}{where:<16}{known.describe().splitlines()[0]}")
    return 0


def fetch_data(options) -> int:
    from ..data import fetch

    folder = fetch(options.name, cache_dir=options.cache_dir, progress=not options.quiet, base_url=options.base_url)
    print(for_terminal(folder))
    return 0


def describe_data(options) -> int:
    from ..data import dataset_info, list_datasets, load_dataset

    if options.data in {known.name for known in list_datasets()}:
        print(dataset_info(options.data).describe() + "\n")
    print(load_dataset(options.data, **load_options(options)).describe())
    return 0
