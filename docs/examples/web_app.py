"""A web app on one warm collection: ``flask --app web_app run``."""
# ruff: noqa: ANN001, ANN201, D103

import os

import flask

import clipsearch

app = flask.Flask(__name__)
photos = clipsearch.open(os.environ.get("PHOTOS", "indexes/photos"))


@app.get("/search")
def search():
    hits = photos.search(flask.request.args["q"], k=int(flask.request.args.get("k", 10)))
    return [{"path": hit.path, "score": hit.score, "tags": hit.metadata.get("tags", [])} for hit in hits]


@app.errorhandler(clipsearch.InputError)
def wrong_request(error):
    return {"error": str(error)}, 400
