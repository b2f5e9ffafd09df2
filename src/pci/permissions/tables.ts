/**
 * The permission tables, put to the test once when they are loaded, looked up by id, and printed.
 */

import { CapHeader, CFG_SPACE_EXP_SIZE, CFG_SPACE_SIZE, HEADER_SIZE } from '../../abi/pci.ts';
import { hex } from '../../base/check.ts';
import type { CapabilityKind } from '../capabilities/kind.ts';
import { extendedKinds, standardKinds } from '../capabilities/registry.ts';
import { headerPermissions } from './header.ts';
import {
  ALL,
  type CapabilityPermissions,
  PERMISSIONS_VERSION,
  type PermissionRow,
  type RegisterReader,
  row,
  triggerMeanings,
  Why,
} from './rows.ts';

/** Why an id without a row is hidden. */
export const unknownCapabilityWhy = 'not known: it may reach beyond this function';

/**
 * Register values under which a table shows all its rows: every optional part is there, or none is.
 */
const readers: readonly RegisterReader[] = [0, 0xffff_ffff, 0x80, 0x100].map(
  (value) => (_offset, width) => (width === 4 ? value : value % 2 ** (8 * width)),
);

/** The rows a capability can have, those that depend on its registers included, each once. */
export function allRows(table: CapabilityPermissions): readonly PermissionRow[] {
  if (typeof table.rows !== 'function') return table.rows;
  const seen = new Map<string, PermissionRow>();
  for (const read of readers) for (const row of table.rows(read)) seen.set(`${row.offset} ${row.name}`, row);
  return [...seen.values()].sort((a, b) => a.offset - b.offset);
}

/**
 * The faults of a table: rows that overlap, are out of order or misaligned, lie beyond the length,
 * have bits beyond their width, or lack a reason. Empty for a good one.
 */
export function problemsOf(table: CapabilityPermissions): readonly string[] {
  const problems: string[] = [];
  const where = `${table.extended ? 'extended ' : ''}${hex(table.id)} ${table.name}`;
  if (table.why.trim() === '') problems.push(`${where}: no reason`);
  if (table.name.trim() === '') problems.push(`${where}: no name`);
  const most = table.length.kind === 'fixed' ? table.length.bytes : table.length.kind === 'variable' ? table.length.most : 0;
  const space = table.extended ? CFG_SPACE_EXP_SIZE - CFG_SPACE_SIZE : CFG_SPACE_SIZE;
  if (most > space + 1024) problems.push(`${where}: ${most} bytes do not fit`);
  for (const read of readers) {
    const rows = typeof table.rows === 'function' ? table.rows(read) : table.rows;
    const length = table.length.kind === 'variable' ? table.length.of(read) : most;
    if (table.length.kind === 'variable' && length > most) problems.push(`${where}: length ${length} is above its most, ${most}`);
    let end = 0;
    for (const row of rows) {
      const at = `${where} +${hex(row.offset)} ${row.name}`;
      if (row.offset % row.width !== 0) problems.push(`${at}: not aligned to ${row.width}`);
      if (row.offset < end) problems.push(`${at}: overlaps or precedes the row before it`);
      if (row.offset + row.width > most) problems.push(`${at}: beyond the ${most} bytes of the capability`);
      if (row.virt >= 2 ** (8 * row.width) || row.write >= 2 ** (8 * row.width)) problems.push(`${at}: bits beyond its width`);
      if (row.why.trim() === '') problems.push(`${at}: no reason`);
      let explained = 0;
      for (const bit of row.bits) {
        if (bit.mask === 0 || bit.mask >= 2 ** (8 * row.width) || (bit.mask & explained) !== 0)
          problems.push(`${at}: reasons of bits overlap or are out of width`);
        if (bit.why.trim() === '') problems.push(`${at}: no reason for bits ${hex(bit.mask)}`);
        explained |= bit.mask;
      }
      for (const trigger of row.triggers) if (!Object.hasOwn(triggerMeanings, trigger)) problems.push(`${at}: unknown trigger ${trigger}`);
      end = row.offset + row.width;
    }
  }
  return problems;
}

function load(tables: readonly CapabilityPermissions[]): ReadonlyMap<number, CapabilityPermissions> {
  const byId = new Map<number, CapabilityPermissions>();
  for (const table of tables) {
    const problems = problemsOf(table);
    if (problems.length > 0) throw new Error(`permission tables: ${problems.join('; ')}`);
    if (byId.has(table.id)) throw new Error(`permission tables: ${table.name} has the id of ${byId.get(table.id)!.name}`);
    byId.set(table.id, table);
  }
  return byId;
}

const nextPointer = row(CapHeader.NEXT, 1, 'next capability', ALL, 0, Why.CHAIN);
const extendedHeader = row(0, 4, 'extended header', ALL, 0, Why.CHAIN);

function tableOf(kind: CapabilityKind): readonly CapabilityPermissions[] {
  const { id, name, access } = kind;
  if (access === undefined) return [];
  const { length, why, raw = false, rows = [] } = access;
  const extended = kind.extended === true;
  const header = extended ? extendedHeader : nextPointer;
  const all = typeof rows === 'function' ? (read: RegisterReader) => [header, ...rows(read)] : [header, ...rows];
  return [{ id, extended, name, length, raw, why, rows: length.kind === 'hidden' ? [] : all }];
}

/**
 * The tables of the standard capabilities in the order of their ids. VFIO hides an id without one.
 */
export const standardPermissions: readonly CapabilityPermissions[] = standardKinds.flatMap(tableOf);
export const extendedPermissions: readonly CapabilityPermissions[] = extendedKinds.flatMap(tableOf);

const standard = load(standardPermissions);
const extended = load(extendedPermissions);
load([headerPermissions]);
if (headerPermissions.length.kind !== 'fixed' || headerPermissions.length.bytes !== HEADER_SIZE)
  throw new Error('permission tables: header size');

/** The table of a capability; undefined for an unknown id, whose capability is hidden. */
export function permissionsOf(id: number, isExtended: boolean): CapabilityPermissions | undefined {
  return (isExtended ? extended : standard).get(id);
}

/** Header first, then standard, then extended capabilities in order of their ids. */
export const permissionTables: readonly CapabilityPermissions[] = [headerPermissions, ...standardPermissions, ...extendedPermissions];

/** The tables for people: a line per capability and one per row, with its reason. */
export function formatPermissions(tables: readonly CapabilityPermissions[] = permissionTables): string {
  const lines = [`Config space permissions (as ${PERMISSIONS_VERSION}); bits not listed are read-only in hardware.`];
  for (const table of tables) {
    const kind =
      table === headerPermissions ? '' : table.extended ? `extended capability ${hex(table.id)}: ` : `capability ${hex(table.id)}: `;
    const { length } = table;
    const size = length.kind === 'hidden' ? 'hidden' : length.kind === 'fixed' ? `${length.bytes} bytes` : `length ${length.rule}`;
    lines.push('', `${kind}${table.name} (${size}${table.raw ? ', raw' : ''}): ${table.why}`);
    for (const row of allRows(table)) {
      const digits = 2 * row.width;
      const bits = (value: number) => value.toString(16).padStart(digits, '0').padEnd(8);
      lines.push(
        `  +${row.offset.toString(16).padStart(2, '0')} ${row.name.padEnd(30)} virt ${bits(row.virt)} write ${bits(row.write)} ${row.why}`,
      );
      for (const bit of row.bits) lines.push(`      bits ${hex(bit.mask)}: ${bit.why}`);
      for (const trigger of row.triggers) lines.push(`      ${trigger}: ${triggerMeanings[trigger]}`);
    }
  }
  return lines.join('\n');
}
