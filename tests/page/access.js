// What a reader of the page may meet, checked in the page itself. Returns a list of what is wrong.
() => {
  const wrong = [];
  const shown = (element) => {
    const box = element.getBoundingClientRect();
    return element.checkVisibility({ visibilityProperty: true, opacityProperty: true }) && box.width > 1 && box.height > 1;
  };
  const where = (element) => `${element.tagName.toLowerCase()}${element.id ? `#${element.id}` : ""}.${element.className?.baseVal ?? element.className}`;

  // Contrast (WCAG 2.2, 1.4.3), against the background that is really behind the text.
  const pen = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    pen.clearRect(0, 0, 1, 1);
    pen.fillStyle = color;
    pen.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, under) => [0, 1, 2].map((n) => top[n] * top[3] + under[n] * (1 - top[3])).concat(1);
  const behind = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) {
      layers.push(rgba(getComputedStyle(at).backgroundColor));
      if (layers.at(-1)[3] === 1) break;
      if (getComputedStyle(at, "::before").position === "absolute") layers.push(rgba(getComputedStyle(at, "::before").backgroundColor));
    }
    return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255, 1]);
  };
  const luminance = (color) => color.slice(0, 3).map((n) => n / 255)
    .map((n) => (n <= 0.04045 ? n / 12.92 : ((n + 0.055) / 1.055) ** 2.4))
    .reduce((sum, n, at) => sum + n * [0.2126, 0.7152, 0.0722][at], 0);
  const contrast = (a, b) => {
    const [light, dark] = [luminance(a), luminance(b)].sort((x, y) => y - x);
    return (light + 0.05) / (dark + 0.05);
  };
  const opacity = (element) => {
    let value = 1;
    for (let at = element; at; at = at.parentElement) value *= Number(getComputedStyle(at).opacity);
    return value;
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !shown(element) || element.closest("noscript, :disabled, .unseen")) continue;
    const style = getComputedStyle(element);
    const ground = behind(element);
    const ink = rgba(style.color);
    ink[3] *= opacity(element);
    const size = parseFloat(style.fontSize);
    const needed = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) ? 3 : 4.5;
    const got = contrast(over(ink, ground), ground);
    if (got < needed) wrong.push(`contrast ${got.toFixed(2)} of "${texts.currentNode.data.trim().slice(0, 30)}" in ${where(element)}`);
  }

  // Targets (2.5.8), focus order (2.4.3), names given twice, structure (1.3.1).
  for (const element of document.querySelectorAll("button, select, input:not([type=file]), summary, a.row, a.button")) {
    const box = element.getBoundingClientRect();
    if (shown(element) && (box.width < 24 || box.height < 24)) wrong.push(`small target ${where(element)}: ${box.width} × ${box.height}`);
  }
  for (const element of document.querySelectorAll("[tabindex]")) {
    if (element.tabIndex > 0) wrong.push(`positive tabindex on ${where(element)}`);
  }
  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  for (const id of new Set(ids.filter((one, at) => ids.indexOf(one) !== at))) wrong.push(`id ${id} is there twice`);
  for (const element of document.querySelectorAll("[aria-labelledby], [aria-describedby]")) {
    for (const id of `${element.getAttribute("aria-labelledby") ?? ""} ${element.getAttribute("aria-describedby") ?? ""}`.trim().split(/\s+/)) {
      if (!document.getElementById(id)) wrong.push(`${where(element)} refers to ${id}, which is not there`);
    }
  }
  const count = (selector) => [...document.querySelectorAll(selector)].filter((element) => element.checkVisibility()).length;
  if (count("main") !== 1) wrong.push(`${count("main")} main landmarks`);
  if (count("h1") > 1) wrong.push(`${count("h1")} h1`);
  if (!document.documentElement.lang) wrong.push("no language");
  if (!document.title) wrong.push("no title");
  for (const image of document.querySelectorAll("img:not([alt])")) wrong.push(`no alt: ${image.src}`);
  if (document.querySelector("[style], [onclick], [onload], style, script:not([src])")) wrong.push("inline style or script in the document");

  // Nothing to scroll sideways.
  if (document.documentElement.scrollWidth > innerWidth) wrong.push(`${document.documentElement.scrollWidth} px wide on ${innerWidth}`);
  return wrong;
}
