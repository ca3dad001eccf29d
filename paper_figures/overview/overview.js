"use strict";

const specification = document.getElementById("chart-specification");
if (specification) {
  vegaEmbed("#chart", JSON.parse(specification.textContent), { renderer: "svg", actions: false });
}

// Claims with the chosen verdict, on some dataset, and of whom was chosen.
const filters = document.getElementById("claim-filters");
filters?.addEventListener("change", () => {
  const [verdict, of] = ["verdict", "of"].map((name) => filters.querySelector(`[name=${name}]`).value);
  for (const claim of document.querySelectorAll("details.claim")) {
    const has = verdict === "" || claim.dataset.verdicts.split(" ").includes(verdict);
    claim.hidden = !has || (of !== "" && claim.dataset.of !== of);
  }
});

const dataset = document.getElementById("grid-dataset");
function showGrids() {
  const models = [...document.querySelectorAll("[name=grid-model]:checked")].map((box) => box.value);
  for (const figure of document.querySelectorAll("#grids figure")) {
    figure.hidden = figure.dataset.dataset !== dataset.value || !models.includes(figure.dataset.model);
  }
}
dataset?.addEventListener("change", showGrids);
for (const box of document.querySelectorAll("[name=grid-model]")) box.addEventListener("change", showGrids);
