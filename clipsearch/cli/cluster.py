"""``clipsearch cluster``: part a collection's pictures into named clusters."""

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from clipsearch.cli import options
from clipsearch.cli.console import Console, is_terminal, terminal_width
from clipsearch.cli.writing import check_sheet

if TYPE_CHECKING:
    from clipsearch.flows.cluster import Cluster, ClusterReport


@click.command("cluster", short_help="Part the pictures into clusters with names.")
@options.collection
@click.option("--k", metavar="N", type=click.IntRange(min=1), help="Clusters wanted; chosen by the number of pictures.")
@click.option("--where", metavar="EXPR", help="Part only the pictures for which EXPR is true, as in search.")
@click.option(
    "--labels",
    metavar="FILE",
    shell_complete=options.complete_files,
    help="Take names from this file of labels, as tag takes it. [default: the tags of the pictures, or the vocabulary "
    "inside]",
)
@click.option("--seed", metavar="N", type=click.IntRange(min=0), default=0, show_default=True, help="Start elsewhere.")
@click.option(
    "--column",
    metavar="NAME",
    default="cluster",
    show_default=True,
    help="Name of the column; NAME_name has the names.",
)
@click.option("--no-column", is_flag=True, help="Only show the clusters; write nothing.")
@click.option(
    "--contact-sheet",
    metavar="OUT.png",
    shell_complete=options.complete_files,
    help="Write the pictures nearest to each centre as a page of small pictures.",
)
@click.option("--force", "overwrite", is_flag=True, help="Write OUT.png over a file that is no contact sheet.")
@click.option("--wait", is_flag=True, help="Wait while another process writes to the collection.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON Lines: one object a cluster, with all row ids.")
@options.encoder
@options.common
def command(
    console: Console,
    index: str | None,
    indexes_dir: str,
    k: int | None,
    where: str | None,
    labels: str | None,
    seed: int,
    column: str,
    no_column: bool,
    contact_sheet: str | None,
    overwrite: bool,
    wait: bool,
    as_json: bool,
    how: dict[str, str],
) -> int:
    """Part the pictures into clusters with names.

    A name is the word that tells a cluster from the others. The same collection and seed give the same clusters. They
    become columns: --where "cluster = 3", --where "cluster_name = 'beach'". No picture is written to.

    \b
    clipsearch cluster
    clipsearch cluster --contact-sheet clusters.png
    clipsearch cluster --k 20 --where "year(taken) = 2023" --column in_2023
    clipsearch cluster --labels words.txt --json
    """  # noqa: D301
    import clipsearch
    from clipsearch.cli.place import find
    from clipsearch.present.text import count, duration

    if contact_sheet is not None:
        check_sheet(contact_sheet, overwrite)
    kept = None if no_column else column
    with clipsearch.open(find(index, indexes_dir), **how) as collection:
        report = collection.clusters(k=k, labels=labels, where=where, seed=seed, column=kept, wait=wait)
        name = collection.name
    if as_json:
        console.json(_json_lines(report))
    else:
        _table(console, report)
    clusters = count(len(report.clusters), "cluster")
    told = {"tags": "; names from tags", "vocabulary": "; names from the vocabulary inside"}.get(report.words, "")
    columns = f"; columns {' and '.join(report.columns)}" if report.columns else ""
    console.note(f"{count(report.images, 'image')} in {clusters} ({duration(report.seconds)}){told}{columns}")
    if contact_sheet is not None:
        from clipsearch.cli.pictures import write_groups

        groups = [(_title(n, cluster), cluster.nearest) for n, cluster in enumerate(report.clusters, start=1)]
        write_groups(contact_sheet, groups, f"{name}: {count(report.images, 'image')} in {clusters}")
        console.note(f"contact sheet: {contact_sheet}")
    return 0


def _title(number: int, cluster: "Cluster") -> str:
    from clipsearch.present.text import count

    named = f"  {cluster.name}" if cluster.name else ""
    return f"{number}{named}  ({count(cluster.size, 'image')})"


def _json_lines(report: "ClusterReport") -> list[str]:
    from clipsearch.present.json_lines import dump, path_fields

    def one(number: int, cluster: "Cluster") -> dict[str, Any]:  # Any: JSON values
        return {
            "schema": "clipsearch.cluster/1",
            "cluster": number,
            "name": cluster.name,
            "contrast": cluster.contrast,
            "size": cluster.size,
            "pictures": [path_fields(path) for path in cluster.paths],
            "ids": cluster.ids.tolist(),
        }

    return [dump(one(number, cluster)) for number, cluster in enumerate(report.clusters, start=1)]


def _table(console: Console, report: "ClusterReport") -> None:
    from clipsearch.present.paths import nearest
    from clipsearch.present.table import Column, plain, render, shortened

    columns = (
        Column("cluster", right=True),
        Column("images", right=True),
        Column("name"),
        Column("contrast", right=True, style="2"),
        Column("nearest to its centre", fit=shortened),
    )
    rows = [
        [str(n), str(c.size), c.name, f"{c.contrast:.3f}", nearest(c.paths[0], os.getcwd())]
        for n, c in enumerate(report.clusters, start=1)
    ]
    if not is_terminal(sys.stdout):
        console.results(plain(columns, rows))
    elif rows:
        console.results(render(columns, rows, terminal_width(sys.stdout), console.colour(sys.stdout)))
