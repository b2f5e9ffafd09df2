/** The layout of help pages: prose wraps at the terminal's width, 80 columns without one. */

const COLUMNS = 80;
/** Narrower terminals get lines of this width. */
const LEAST = 40;

export function helpWidth(): number {
  return Math.max((process.stdout.isTTY && process.stdout.columns) || COLUMNS, LEAST);
}

/** Lines of two columns, indented. */
export function columnLines(rows: readonly (readonly [string, string])[]): string[] {
  const width = Math.max(...rows.map(([left]) => left.length));
  return rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}`);
}

/**
 * Prose is wrapped at `width`, and the right column of a table below itself. Other indented lines
 * are examples, which stay as they are typed.
 */
export function wrapped(text: string, width: number): string {
  return text
    .split('\n')
    .map((line) => {
      const left = /^ +\S.*? {2,}(?=\S)/.exec(line)?.[0] ?? '';
      if (line.length <= width || (left === '' && line.startsWith(' '))) return line;
      const room = Math.max(width - left.length, 20);
      const right = line.slice(left.length).replace(new RegExp(`(?=.{${room + 1}})(.{1,${room}}) `, 'g'), '$1\n');
      return left + right.replaceAll('\n', `\n${' '.repeat(left.length)}`);
    })
    .join('\n');
}
