"""HTML as tests look at it."""

from html.parser import HTMLParser

VOID = ("meta", "link", "img", "input", "br")  # elements without an end tag
DRAWN = ("path",)  # of charts, which close themselves


class Elements(HTMLParser):
    """Elements with their attributes, and texts with the element that they lie in; fails where tags do not match."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts, self.inside = [], [], []
        self.feed(text)
        self.close()
        assert not self.inside

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes) | ({"in label": ""} if "label" in self.inside else {})))
        if tag not in VOID + DRAWN:
            self.inside.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if tag not in VOID + DRAWN:
            assert self.inside.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.inside[-1] if self.inside else "", data))

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]
