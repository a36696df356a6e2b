// A dataset's own page: its photos are added to, captioned and looked at there as in the form of a trainer.
import { Photos } from "./photos.js";

const place = document.getElementById("dataset");
const about = () => ({ endpoint: place.dataset.endpoint, inputs: {} });
new Photos(place.querySelector("[data-archive]"), document.getElementById("dataset-url"), about, () => {});
