// Numbers as the reader writes them, in the page's language.

const language = document.documentElement.lang;
const plain = new Intl.NumberFormat(language);
const oneDigit = new Intl.NumberFormat(language, { maximumFractionDigits: 1 });
const threeDigits = new Intl.NumberFormat(language, { maximumSignificantDigits: 3 });
const percents = new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: 0 });

export const number = (value) => plain.format(value);
export const milliseconds = (seconds) => threeDigits.format(seconds * 1000);
export const times = (value) => (value < 10 ? oneDigit : plain).format(value < 10 ? value : Math.round(value));
export const percent = (share) => percents.format(share);

export function bytes(count) {
  const units = ["B", "KB", "MB", "GB"];
  let unit = 0;
  for (; count >= 1000 && unit < units.length - 1; unit += 1) count /= 1000;
  return `${oneDigit.format(count)} ${units[unit]}`;
}

// 75 -> "1:15"
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const two = new Intl.NumberFormat(language, { minimumIntegerDigits: 2 });
  return whole < 60 ? interpolate(gettext("%s s"), [plain.format(whole)])
    : `${plain.format(Math.floor(whole / 60))}:${two.format(whole % 60)}`;
}
