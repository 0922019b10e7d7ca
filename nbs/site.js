// On the site: an explorer without a kernel switches frames that were drawn when its notebook ran.
document.addEventListener("DOMContentLoaded", () => document.querySelectorAll("figure.explorer").forEach(figure => {
  const { choices, frames, at } = JSON.parse(figure.querySelector("script").textContent);
  const image = figure.querySelector("img"), controls = figure.querySelector(".controls");
  const show = () => {
    const i = choices.reduce((n, c, k) => n * c.options.length + at[k], 0);
    image.src = "data:image/webp;base64," + (frames[frames[i]] ?? frames[i]);  // a number names an earlier one
  };
  image.addEventListener("load", () => { image.style.maxWidth = `min(100%, ${image.naturalWidth}px)`; });
  choices.forEach((choice, k) => {
    const set = document.createElement("fieldset");
    set.append(Object.assign(document.createElement("legend"), { textContent: choice.words }));
    if (choice.options.length <= 4) choice.options.forEach((words, i) => {
      const label = document.createElement("label"), input = document.createElement("input");
      Object.assign(input, { type: "radio", name: `${figure.id}-${k}`, checked: i === at[k] });
      input.addEventListener("change", () => { at[k] = i; show(); });
      label.append(input, ` ${words}`);
      set.append(label);
    });
    else {
      const input = document.createElement("input"), output = document.createElement("output");
      Object.assign(input, { type: "range", min: 0, max: choice.options.length - 1, value: at[k], step: 1 });
      input.setAttribute("aria-label", choice.words);
      const words = () => { output.textContent = choice.options[at[k]]; input.setAttribute("aria-valuetext", choice.options[at[k]]); };
      input.addEventListener("input", () => { at[k] = +input.value; words(); show(); });
      words();
      set.append(input, output);
    }
    controls.append(set);
  });
  show();
}));
// A narrow page folds the rules of claims, which are open elsewhere.
document.addEventListener("DOMContentLoaded", () => {
  if (matchMedia("(max-width: 600px)").matches) document.querySelectorAll("main details[open]").forEach(d => { d.open = false; });
});
// What is wider than its place scrolls: a key must be able to reach it.
const reach = () => document.querySelectorAll("main pre, main table, main .math, main .cell-output, main .sd-table").forEach(e => {
  if (e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX !== "visible") e.tabIndex = 0;
});
addEventListener("load", reach);
addEventListener("resize", reach);
