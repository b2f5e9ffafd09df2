/**
 * Recordings of real computers: tests/real-hosts/NAME.lspci (the facts of a text of lspci, or of a
 * list of groups) or NAME.tree (those of a sysfs). NAME.groups has the groups that Linux made
 * there, NAME.fabric the tree of a recording without groups.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { hostYaml } from '../src/api/host-yaml.ts';
import { parseMachine } from '../src/api/machine-file.ts';
import { Machine } from '../src/engine/machine/machine.ts';
import { Host } from '../src/host/host.ts';
import type { HostPicture } from '../src/host/host-picture.ts';
import { readLspci } from '../src/host/lspci.ts';
import { readSosreport } from '../src/host/sosreport.ts';
import { readSysfs } from '../src/host/sysfs.ts';
import { HeapMemory } from '../src/sys/fake.ts';
import { MemoryFiles } from '../src/sys/memory-files.ts';
import { hostTreeOf } from './kit/host-trees.ts';

const folder = join(import.meta.dirname, 'real-hosts');
const text = (file: string) => readFileSync(join(folder, file), 'utf8');
const recordings = readdirSync(folder).filter((file) => /\.(lspci|tree)$/.test(file));
const nameOf = (file: string) => file.replace(/\.\w+$/, '');
const withGroups = recordings.filter((file) => existsSync(join(folder, `${nameOf(file)}.groups`)));
const pictureOf = (file: string): HostPicture => (file.endsWith('.tree') ? readSysfs(hostTreeOf(text(file))) : readLspci(text(file), file));
const groupsOf = (machine: Machine) =>
  [...machine.groups.values()]
    .sort((a, b) => a.id - b.id)
    .map((g) => `${g.id}: ${g.functions.map((fn) => fn.bdf.replace(/^0000:/, '')).join(' ')}`);

it('ten computers and more', () => {
  expect(recordings.length).toBeGreaterThanOrEqual(10);
  expect(withGroups.length).toBeGreaterThanOrEqual(10);
});

describe('host: groups of recorded computers', () => {
  it.each(withGroups)('%s has the groups of the recording, with their numbers', (file) => {
    using host = Host.of(pictureOf(file));
    expect(groupsOf(host.machine)).toEqual(
      text(`${nameOf(file)}.groups`)
        .trim()
        .split('\n'),
    );
  });

  it.each(recordings)('%s: its machine file makes the same functions and groups', (file) => {
    using host = Host.of(pictureOf(file));
    using machine = new Machine(parseMachine(hostYaml(host)), { allocate: HeapMemory.allocate });
    expect(groupsOf(machine)).toEqual(groupsOf(host.machine));
    expect([...machine.functions.values()].map(({ bdf, kind, driver }) => [bdf, kind, driver])).toEqual(
      [...host.machine.functions.values()].map(({ bdf, kind, driver }) => [bdf, kind, driver]),
    );
  });

  // Of these the source has every capability that decides a group.
  it.each(['comet-lake-laptop.lspci'])('%s: the groups follow from the fabric by the rule of Linux 7.3', (file) => {
    using host = Host.of(pictureOf(file));
    expect(host.differences).toEqual([]);
  });
});

describe('host: the tree of recorded computers without groups', () => {
  it.each(recordings.filter((file) => !withGroups.includes(file)))('%s', (file) => {
    const lines = pictureOf(file).functions.map(({ bdf, kind, parent }) => `${bdf} ${kind}${parent === null ? '' : ` behind ${parent}`}`);
    expect(lines).toEqual(
      text(`${nameOf(file)}.fabric`)
        .trim()
        .split('\n'),
    );
  });
});

it('host: a report of sos has the groups of the text of lspci in it, and its kernel', () => {
  const file = 'comet-lake-workstation.lspci';
  const bytes = (content: string) => ({ bytes: new TextEncoder().encode(content) });
  const picture = readSosreport(
    new MemoryFiles('a report', [
      ['sos_commands/pci/lspci_-nnvv', bytes(text(file))],
      ['sos_commands/host/hostname', bytes('station\n')],
      ['proc/version', bytes('Linux version 6.12.0-55.el10.x86_64 (builder) #1 SMP\n')],
      ['proc/cmdline', bytes('BOOT_IMAGE=/vmlinuz intel_iommu=on\n')],
    ]),
  );
  expect(picture).toMatchObject({ source: 'sosreport', hostname: 'station', kernel: '6.12.0-55.el10.x86_64' });
  using host = Host.of(picture);
  expect(groupsOf(host.machine)).toEqual(text('comet-lake-workstation.groups').trim().split('\n'));
});
