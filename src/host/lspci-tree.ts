/** The tree that `lspci -t` draws: the bridge above each function, and the buses behind bridges. */
import { formatBdf } from '../pci/bdf.ts';
import { recordedLines } from './recorded-lines.ts';

export interface TreePlace {
  /** Null on a root bus. */
  readonly parent: string | null;
  secondary: number | null;
}

interface Bus {
  readonly domain: number;
  readonly number: number;
  readonly bridge: string | null;
}

const token = /\[(?:([0-9a-f]{4,8}):)?([0-9a-f]{2})(?:-[0-9a-f]{2})?\]|([0-1][0-9a-f])\.([0-7])|[+\\]/gi;
/** A line of a tree: only lines, buses and devices up to the name of a device. */
const drawn = /^[\s|]*[-+\\]+[-+\\[]/;

/** The functions of all trees in `text`. Empty for a text without one. */
export function parseLspciTree(text: string): ReadonlyMap<string, TreePlace> {
  const places = new Map<string, TreePlace>();
  /** The bus whose devices hang on a vertical line, by its column. */
  const columns = new Map<number, Bus | null>();
  for (const line of recordedLines(text)) {
    if (!drawn.test(line)) continue;
    let bus: Bus | null = null;
    let device: string | null = null;
    let begun = false;
    let end = line.length;
    for (const match of line.matchAll(token)) {
      // Names follow a device after blanks.
      if (match.index > end) break;
      const [whole, domain, number, slot, fn] = match;
      if (whole === '+' || whole === '\\') {
        if (begun) columns.set(match.index, bus);
        else bus = columns.get(match.index) ?? null;
        if (!begun && bus === null) columns.set(match.index, null);
        begun = true;
        continue;
      }
      begun = true;
      if (number !== undefined) {
        const above: number = domain === undefined ? (bus?.domain ?? 0) : Number.parseInt(domain, 16);
        bus = { domain: above, number: Number.parseInt(number, 16), bridge: domain === undefined ? device : null };
        const bridge = device === null ? undefined : places.get(device);
        if (bridge !== undefined && domain === undefined) bridge.secondary = bus.number;
      } else if (bus !== null) {
        device = formatBdf({ domain: bus.domain, bus: bus.number, device: Number.parseInt(slot!, 16), fn: Number(fn) });
        places.set(device, { parent: bus.bridge, secondary: null });
        const after = line.slice(match.index + whole.length).search(/\s/);
        end = after === -1 ? line.length : match.index + whole.length + after;
      }
    }
  }
  return places;
}
