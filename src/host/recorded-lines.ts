/** Lines of a text that was pasted, mailed or logged, as the program had printed them. */

/** Colours of a terminal. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is removed
const colours = /\x1b\[[0-9;]*[A-Za-z]/g;

/** The beginning of a line in a log: the time of the kernel's, of syslog's, of ISO 8601. */
const logged =
  /^(?:\[ *\d+\.\d+\] |[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+ [^:\s]+: ?|\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\S* (?:\S+ [^:\s]+: |std(?:out|err) [FP] )?)/;

/** Characters of a line that count: lines of lspci have fewer, and others may have millions. */
const MAX_LINE = 1024;

/** The lines of a text, with their blanks at the beginning. */
export function* recordedLines(text: string): Generator<string, void, void> {
  for (let at = 0; at <= text.length; ) {
    const end = text.indexOf('\n', at);
    const line = text.slice(at, Math.min(end < 0 ? text.length : end, at + MAX_LINE));
    yield line.replaceAll('\r', '').replaceAll(colours, '').replace(logged, '');
    if (end < 0) return;
    at = end + 1;
  }
}

/**
 * The kernel's command line in a line: from its first word on, or all of a line that patches the
 * kernel. Null for other lines.
 */
export function commandLineIn(line: string): string | null {
  const title = 'Kernel command line: ';
  const begins = line.indexOf(title);
  const rest = begins < 0 ? line : line.slice(begins + title.length);
  const image = rest.search(/(?:^|\s)BOOT_IMAGE=/);
  if (image >= 0) return rest.slice(image).trim();
  return /\bpcie_acs_override=/.test(rest) ? rest.trim() : null;
}
