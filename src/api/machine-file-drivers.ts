/** Writes drivers into a machine file, for `vfio bind --write`. */
import { readFileSync, writeFileSync } from 'node:fs';
import { type Document, isMap, isSeq, parseDocument, type Scalar, type YAMLMap, type YAMLSeq } from 'yaml';
import { VfioError } from '../base/errno.ts';
import type { Machine } from '../engine/machine/machine.ts';
import type { PciFunction } from '../engine/machine/pci-function.ts';
import { parseBdf } from '../pci/bdf.ts';
import { fromNode } from '../sys/system-error.ts';

/**
 * Set `driver:` of the functions in the machine file. Only these words change: the author's layout
 * and comments stay.
 */
export function writeDrivers(file: string, machine: Machine, changed: readonly PciFunction[]): void {
  let text = readFileSync(file, 'utf8');
  for (const fn of changed) {
    // Parsed again for each function, because an edit moves the text after it. Scalars are text, as
    // in machine-file.ts: 060000 and 00.0 are not numbers.
    const node = nodeOf(parseDocument(text, { schema: 'failsafe' }), machine, fn, file);
    const driver = fn.driver ?? 'none';
    const now = node.get('driver', true) as Scalar | undefined;
    const at = node.get('at', true) as Scalar;
    const lineStart = text.lastIndexOf('\n', at.range![0]) + 1;
    const indent = ' '.repeat(text.slice(lineStart).search(/at\b|['"]at\b/));
    const [from, to, put] =
      now?.range != null
        ? [now.range[0], now.range[1], driver]
        : [at.range![1], at.range![1], node.flow === true ? `, driver: ${driver}` : `\n${indent}driver: ${driver}`];
    text = text.slice(0, from) + put + text.slice(to);
  }
  try {
    writeFileSync(file, text);
  } catch (cause) {
    throw fromNode(cause, `the drivers cannot be written to ${file}`);
  }
}

/** The declaration of `fn`, found from the root down the buses by device and function number. */
function nodeOf(document: Document, machine: Machine, fn: PciFunction, file: string): YAMLMap {
  const path: PciFunction[] = [];
  for (let at: PciFunction | null = fn; at !== null; at = at.parent) path.unshift(at);
  let devices = document.get('devices') as YAMLSeq | undefined;
  let node: YAMLMap | undefined;
  for (const step of path) {
    node = isSeq(devices) ? (devices.items.find((item) => isMap(item) && names(item, step)) as YAMLMap | undefined) : undefined;
    devices = node?.get('devices') as YAMLSeq | undefined;
  }
  if (node === undefined) throw new VfioError('ENOENT', `${fn.bdf} of ${machine.name} has no entry of its own in ${file}`);
  return node;
}

/**
 * Whether an entry declares `fn`. An entry without a bus number is on the bus of the bridge above
 * it, or on 0000:00. A virtual function has no entry.
 */
function names(item: YAMLMap, { bdf, bus, physical }: PciFunction): boolean {
  const at = String(item.get('at'));
  if (physical !== null) return false;
  return parseBdf(at.includes(':') ? at : `${bus.bridge === null ? '0000:00' : bus.name}:${at.padStart(4, '0')}`) === bdf;
}
