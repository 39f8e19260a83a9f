// Light or dark: what was chosen here, else what the system prefers. A classic script in the head,
// so that the page is never painted in the wrong one.
(function () {
  const KEY = "boathook.theme";
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const chosen = () => {
    try { return localStorage.getItem(KEY); } catch { return null; }
  };
  const apply = () => {
    document.documentElement.dataset.theme = chosen() || (dark.matches ? "dark" : "light");
  };
  dark.addEventListener("change", apply);
  addEventListener("boathook:toggle-theme", () => {
    const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    try { localStorage.setItem(KEY, next); } catch { /* it lasts as long as the page then */ }
    document.documentElement.dataset.theme = next;
  });
  apply();
})();
