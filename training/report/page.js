"use strict";
// Searching and sorting of tables; the page is whole without it.
for (const field of document.querySelectorAll("input[data-rows]")) {
  const count = field.nextElementSibling;
  const rows = [...count.nextElementSibling.querySelectorAll("tbody tr")];
  field.addEventListener("input", () => {
    const wanted = field.value.toLocaleLowerCase();
    let left = 0;
    for (const row of rows) {
      row.hidden = !row.textContent.toLocaleLowerCase().includes(wanted);
      left += row.hidden ? 0 : 1;
    }
    count.textContent = wanted ? left + " of " + rows.length + " rows" : "";
  });
}
for (const button of document.querySelectorAll("th button")) {
  const head = button.parentElement;
  const place = [...head.parentElement.children].indexOf(head);
  const body = head.closest("table").tBodies[0];
  const key = (row) => row.children[place].textContent.replaceAll(",", "");
  let up = false;
  button.addEventListener("click", () => {
    up = !up;
    const rows = [...body.rows].sort((one, other) => {
      const [a, b] = [key(one), key(other)];
      const found = a !== "" && b !== "" && !isNaN(a) && !isNaN(b) ? a - b : a.localeCompare(b);
      return up ? found : -found;
    });
    body.append(...rows);
  });
}
