document.querySelectorAll("table.sortable").forEach(table => {
  const heads = [...table.tHead.rows[0].cells];
  table.caption.append(". A column's name sorts by it");
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const text = head.classList.contains("text");
      const up = head.ariaSort ? head.ariaSort !== "ascending" : text;
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.ariaSort = up ? "ascending" : "descending";
      const key = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
      const order = (a, b) => text ? key(a).localeCompare(key(b)) : key(a) - key(b);
      const rows = [...table.tBodies[0].rows];
      const known = rows.filter(row => key(row) !== "").sort((a, b) => up ? order(a, b) : order(b, a));
      table.tBodies[0].append(...known, ...rows.filter(row => key(row) === ""));
    });
  });
});
document.querySelectorAll("details.copy").forEach(details => {
  const text = details.querySelector("pre");
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy";
  details.querySelector("summary").append(button);
  button.addEventListener("click", async event => {
    event.preventDefault();
    try {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = "Copied";
    } catch {  // where a page may not write there, its text is selected, to be copied by hand
      details.open = true;
      getSelection().selectAllChildren(text);
      button.textContent = "Selected: press Ctrl-C";
    }
  });
});
const show = () => {
  const target = document.getElementById(location.hash.slice(1));
  for (let each = target; each; each = each.parentElement) if (each.tagName === "DETAILS") each.open = true;
  target?.scrollIntoView();
};
addEventListener("hashchange", show);
if (location.hash) show();
