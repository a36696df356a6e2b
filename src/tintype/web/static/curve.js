// Draws a training's loss by step as SVG: every value thin, and its running mean.

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [600, 180, 46, 10, 12, 22];

export function drawCurve(svg, losses, total) {
  const points = [...losses].sort((one, other) => one[0] - other[0]);
  const last = Math.max(total || 0, points.at(-1)?.[0] ?? 1, 1);
  const values = points.map(([, loss]) => loss).sort((one, other) => one - other);
  const low = Math.min(values[0] ?? 0, values.at(-1) ?? 1);
  const high = values[Math.min(values.length - 1, Math.ceil(values.length * 0.98))] ?? 1; // one jump must not flatten it
  const span = high - low || Math.abs(high) || 1;
  const x = (step) => LEFT + ((WIDTH - LEFT - RIGHT) * step) / last;
  const y = (loss) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - Math.min(1.05, (loss - low) / span));
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.replaceChildren();
  for (const share of [0, 0.5, 1]) {
    const loss = low + span * share;
    add(svg, "line", { class: "rule", x1: LEFT, x2: WIDTH - RIGHT, y1: y(loss), y2: y(loss) });
    add(svg, "text", { x: LEFT - 6, y: y(loss) + 4, "text-anchor": "end" }, loss.toPrecision(2));
  }
  for (const [step, anchor] of [[0, "start"], [last, "end"]]) add(svg, "text", { x: x(step), y: HEIGHT - 6, "text-anchor": anchor }, step);
  const path = (list) => list.map(([step, loss], index) => `${index ? "L" : "M"}${x(step).toFixed(1)} ${y(loss).toFixed(1)}`).join("");
  if (points.length > 1) {
    add(svg, "path", { class: "each", d: path(points) });
    add(svg, "path", { class: "mean", d: path(mean(points)) });
  } else if (points.length) {
    add(svg, "circle", { class: "mean", cx: x(points[0][0]), cy: y(points[0][1]), r: 3 });
  }
  return points.length;
}

function mean(points) {
  const width = Math.max(1, Math.round(points.length / 12));
  return points.map(([step], index) => {
    const near = points.slice(Math.max(0, index - width), index + width + 1);
    return [step, near.reduce((sum, [, loss]) => sum + loss, 0) / near.length];
  });
}

function add(svg, name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  svg.append(made);
}
