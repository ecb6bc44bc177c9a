"use strict";
(function () {
  var filter = document.getElementById("filter");
  var boxes = filter.querySelectorAll("input[type=checkbox]");
  var search = filter.querySelector("input[type=search]");
  var result = document.getElementById("result");
  var rows = Array.prototype.slice.call(document.querySelectorAll("[data-verdict]"));
  var hosts = Array.prototype.slice.call(document.querySelectorAll("[data-host]"));
  var texts = new Map();
  var timer = 0;
  function text(row) {
    if (!texts.has(row)) {
      var host = row.closest("[data-host]");
      texts.set(row, ((host && host !== row ? host.dataset.host + " " : "") + row.textContent).toLowerCase());
    }
    return texts.get(row);
  }
  function apply() {
    var words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    var wanted = new Set();
    boxes.forEach(function (box) { if (box.checked) { wanted.add(box.value); } });
    var shown = 0;
    rows.forEach(function (row) {
      var hit = wanted.has(row.dataset.verdict) && words.every(function (word) { return text(row).includes(word); });
      row.hidden = !hit;
      shown += hit ? 1 : 0;
    });
    hosts.forEach(function (host) {
      if (!host.dataset.verdict) { host.hidden = !host.querySelector("[data-verdict]:not([hidden])"); }
      if (words.length && !host.hidden && host.tagName === "DETAILS") { host.open = true; }
    });
    result.textContent = shown === rows.length ? "" : shown + " of " + rows.length + " rows shown";
  }
  filter.hidden = false;
  boxes.forEach(function (box) { box.addEventListener("change", apply); });
  search.addEventListener("input", function () { clearTimeout(timer); timer = setTimeout(apply, 120); });
  addEventListener("beforeprint", function () {
    document.querySelectorAll("details").forEach(function (item) { item.open = true; });
  });
}());
