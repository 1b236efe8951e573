addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(each => { each.open = true; }));
for (const table of document.querySelectorAll("table.sortable")) {
  const value = cell => { const n = parseFloat(cell.textContent.replace(/[,\s]/g, "")); return Number.isNaN(n) ? -Infinity : n; };
  table.querySelectorAll("thead th").forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button"; button.textContent = head.textContent; head.replaceChildren(button);
    button.addEventListener("click", () => {
      const numeric = head.classList.contains("n");
      const up = head.getAttribute("aria-sort") === "descending" || (!numeric && head.getAttribute("aria-sort") !== "ascending");
      table.querySelectorAll("thead th").forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => (up ? 1 : -1) * (numeric ? value(a.cells[column]) - value(b.cells[column]) : a.cells[column].textContent.localeCompare(b.cells[column].textContent)));
      table.tBodies[0].append(...rows);
    });
  });
}
