// DataTables is an ES module, and a page that is one file has no address to import it from.
const source = document.getElementById("datatables").textContent;
const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
const { default: DataTable } = await import(address);

const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark", dark.matches);
dark.addEventListener("change", follow);
follow();

// Numbers with what follows them; a cell without one comes last, whichever way.
const compare = (sign) => (a, b) => {
  if (a === "" || b === "") return (a === "") - (b === "");
  return sign * (Number(a) - Number(b));
};
DataTable.type("measured", { order: { asc: compare(1), desc: compare(-1) }, className: "number" });

// A list of a column's values, which shows the rows with one of them.
function makeFilter(table, column) {
  const name = column.header().textContent.trim();
  const values = [...new Set(column.nodes().toArray().map((cell) => cell.dataset.search))];
  if (values.length < 2) return [];
  const select = Object.assign(document.createElement("select"), { name });
  select.append(new Option("all", ""), ...values.map((value) => new Option(value)));
  select.addEventListener("change", () => {
    column.search(select.value, { exact: select.value !== "" }).draw();
  });
  const label = document.createElement("label");
  label.append(`${name} `, select);
  return [label];
}

function openDetails(table, button) {
  const cell = button.parentElement;
  const row = table.row(cell.closest("tr"));
  const open = !row.child.isShown();
  const content = cell.querySelector("template").content.cloneNode(true).firstElementChild;
  if (open) row.child(content, "details").show();
  else row.child.hide();
  button.setAttribute("aria-expanded", open);
}

for (const element of document.querySelectorAll("table.sortable")) {
  const paged = element.closest(".table").classList.contains("paged");
  const hides = element.querySelector("th[data-visible=false]");
  const bar = Object.assign(document.createElement("div"), { className: "filters" });
  const table = new DataTable(element, {
    order: [],
    autoWidth: false,
    paging: paged,
    pageLength: 20,
    lengthChange: false,
    info: paged,
    language: { search: "Search", info: "_START_ to _END_ of _TOTAL_", infoFiltered: "", infoEmpty: "",
                zeroRecords: "No such row." },
    layout: {
      topStart: [() => bar, ...(hides ? [{ buttons: [{ extend: "colvis", text: "Columns", background: false }] }] : [])],
      topEnd: "search",
      bottomStart: paged ? "info" : null,
      bottomEnd: paged ? "paging" : null,
    },
  });
  // Who has no mouse scrolls it by keys.
  const scroller = element.closest(".dt-layout-table");
  scroller.tabIndex = 0;
  scroller.setAttribute("role", "region");
  scroller.setAttribute("aria-labelledby", element.getAttribute("aria-labelledby"));
  const filtered = table.columns("[data-filter]").indexes().toArray();
  bar.append(...filtered.flatMap((index) => makeFilter(table, table.column(index))));
  element.addEventListener("click", (event) => {
    const button = event.target.closest("button.open");
    if (button) openDetails(table, button);
  });
}
document.documentElement.dataset.ready = "";
