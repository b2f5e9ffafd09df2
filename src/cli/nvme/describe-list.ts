/** One line for each namespace, in the columns of `nvme list`. */
import { formatBinary, formatBytes } from '../quantities.ts';

export interface ListedNamespace {
  readonly address: string;
  readonly serial: string;
  readonly model: string;
  readonly firmware: string;
  readonly namespace: number;
  /** Bytes. */
  readonly used: number;
  readonly size: number;
  readonly blockSize: number;
  readonly metadataSize: number;
}

const columns: readonly (readonly [title: string, of: (ns: ListedNamespace) => string])[] = [
  ['Address', (ns) => ns.address],
  ['SN', (ns) => ns.serial],
  ['Model', (ns) => ns.model],
  ['Namespace', (ns) => `0x${ns.namespace.toString(16)}`],
  ['Usage', (ns) => `${formatBytes(ns.used).padStart(8)} / ${formatBytes(ns.size).padStart(8)}`],
  ['Format', (ns) => `${formatBinary(ns.blockSize)} + ${ns.metadataSize} B`],
  ['FW Rev', (ns) => ns.firmware],
];

export function listLines(namespaces: readonly ListedNamespace[]): string[] {
  const cells = namespaces.map((ns) => columns.map(([, of]) => of(ns)));
  const widths = columns.map(([title], i) => Math.max(title.length, ...cells.map((row) => row[i]!.length)));
  const line = (row: readonly string[]) =>
    row
      .map((cell, i) => cell.padEnd(widths[i]!))
      .join('  ')
      .trimEnd();
  return [line(columns.map(([title]) => title)), widths.map((width) => '-'.repeat(width)).join('  '), ...cells.map(line)];
}
