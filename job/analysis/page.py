"""Pages from templates: self-contained HTML, whose text is escaped."""

from importlib.metadata import version

from jinja2 import Environment, PackageLoader, StrictUndefined

from job.analysis.formatting import p_text, percent, points


def page(template: str, **values: object) -> str:
    """`values`: what the template shows, and `refresh`: seconds after which a browser asks again, if it shall."""
    environment = Environment(
        loader=PackageLoader("job.analysis"), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters |= {"percent": percent, "points": points, "p": p_text}
    return environment.get_template(template).render(version=version("alexnet-job"), **values)
