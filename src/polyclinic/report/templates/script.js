(function () {
  var root = document.documentElement;
  var toggle = document.getElementById("theme");
  var saved = null;
  try { saved = localStorage.getItem("polyclinic-theme"); } catch (e) { saved = null; }
  if (saved === "dark" || saved === "light") { root.setAttribute("data-theme", saved); }
  toggle.hidden = false;
  toggle.addEventListener("click", function () {
    var system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    var next = (root.getAttribute("data-theme") || system) === "dark" ? "light" : "dark";
    root.setAttribute("data-theme", next);
    try { localStorage.setItem("polyclinic-theme", next); } catch (e) { return; }
  });
  var panels = Array.prototype.slice.call(document.querySelectorAll(".site-panel"));
  if (panels.length < 2) { return; }
  var tabs = document.getElementById("tabs");
  var buttons = panels.map(function (panel, index) {
    var button = document.createElement("button");
    button.type = "button";
    button.textContent = panel.getAttribute("data-name");
    button.setAttribute("role", "tab");
    button.setAttribute("aria-controls", panel.id);
    button.addEventListener("click", function () { choose(index); });
    button.addEventListener("keydown", function (event) {
      var step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) { return; }
      choose((index + step + panels.length) % panels.length).focus();
    });
    panel.setAttribute("role", "tabpanel");
    tabs.appendChild(button);
    return button;
  });
  function choose(chosen) {
    panels.forEach(function (panel, index) {
      panel.classList.toggle("chosen", index === chosen);
      buttons[index].setAttribute("aria-selected", String(index === chosen));
      buttons[index].tabIndex = index === chosen ? 0 : -1;
    });
    return buttons[chosen];
  }
  function follow() {
    var index = panels.findIndex(function (panel) { return "#" + panel.id === location.hash; });
    choose(Math.max(index, 0));
    if (index >= 0) { panels[index].scrollIntoView(); }
  }
  tabs.hidden = false;
  root.classList.add("js");
  addEventListener("hashchange", function () { if (/^#site-/.test(location.hash)) { follow(); } });
  follow();
})();
