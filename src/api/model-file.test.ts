/**
 * Models as objects, and models in files: with options, in addresses and in machine files; and
 * files that do not load.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { VfioError } from '../base/errno.ts';
import { edu } from '../models/edu/edu.ts';
import { parseAddress } from './address.ts';
import { importMachine, loadMachine } from './machine.ts';
import { open } from './open.ts';
import { serve } from './serve.ts';

const folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
afterAll(() => rmSync(folder, { recursive: true }));
const src = join(import.meta.dirname, '..');

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

const imports = `import { bar } from '${src}/models/kit/bar.ts'; import { device } from '${src}/models/kit/device.ts';
import { u32 } from '${src}/base/registers.ts';`;
const uart = file(
  'uart.ts',
  `${imports}
export default ({ baud = 9600, name = 'a uart' } = {}) =>
  device({ id: '1234:0016', name, class: 'serial', bars: { bar0: bar('4K', { baud: u32(0, 'ro') }, { baud: { reset: baud } }) } });`,
);
const plain = file('plain.ts', `${imports}\nexport default device({ id: '1234:0001' });`);
const all = file('all.ts', `${imports}\nexport default ({ ...options }) => device({ id: '1234:0001', name: JSON.stringify(options) });`);

async function failure(work: Promise<unknown>): Promise<VfioError> {
  const error = await work.then(
    () => expect.unreachable('the call succeeded'),
    (cause: unknown) => cause,
  );
  if (error instanceof VfioError) return error;
  throw error;
}

describe('open() and serve()', () => {
  it('take a model object', async () => {
    using dev = await open(edu(), { match: '1234:11e8' });
    expect(dev.bar(0).read32(0)).toBe(0x0100_00ed);
    const path = join(folder, 'edu.sock');
    using server = await serve(edu(), { path, keepAlive: false });
    expect(server.sessions).toEqual([]);
  });

  it.each([undefined, 5, {}, { create() {} }, edu])('take no %s', async (bad) => {
    for (const work of [open(bad as never), serve(bad as never, { path: join(folder, 'none.sock') })])
      expect(await failure(work)).toMatchObject({ code: 'EINVAL', message: expect.stringContaining('a model that device() made') });
  });

  it('pass options to the function that a file exports, with the types that YAML gives them', async () => {
    expect(parseAddress('sim:./a,b/uart.ts,baud=1,x')).toEqual({ kind: 'file', path: './a,b/uart.ts', options: { baud: '1', x: 'true' } });
    using dev = await open(`sim:${uart},baud=0x4b00`);
    expect(dev.bar(0).read32(0)).toBe(19200);
    using usual = await open(`sim:${uart}`);
    expect(usual.bar(0).read32(0)).toBe(9600);
    using any = await open(`sim:${all},a=1,b=-2,c=1.5,d=true,e=text,e=2`);
    expect(any.config.vendor).toBe(0x1234);
  });

  it('refuse an option that the file does not read, and name the options that it has', async () => {
    expect(await failure(open(`sim:${uart},bard=1`))).toMatchObject({
      code: 'EINVAL',
      message: `${uart} has no option 'bard'`,
      fix: 'It has baud, name.',
    });
    expect(await failure(open(`sim:${plain},baud=1`))).toMatchObject({
      code: 'EINVAL',
      message: `${plain} takes no options, and was given 'baud'`,
    });
    expect(
      await failure(open(`sim:${file('none.ts', `${imports}\nexport default () => device({ id: '1234:0001' });`)},a=1`)),
    ).toMatchObject({
      fix: 'It takes none.',
    });
    expect(await failure(open(`sim:${file('late.ts', 'export default async () => ({});')}`))).toMatchObject({
      code: 'EINVAL',
      message: expect.stringContaining('returned a promise'),
    });
    expect(await failure(open(`sim:${file('five.ts', 'export default () => 5;')}`))).toMatchObject({
      message: expect.stringContaining('returned no device'),
    });
  });
});

describe('a machine file', () => {
  const machine = file(
    'machine.yaml',
    `name: two
devices:
  - { at: 01.0, kind: root-port, devices: [{ at: 00.0, model: ./uart.ts, options: { baud: 300, name: first }, driver: vfio-pci }] }
  - { at: 02.0, kind: root-port, devices: [{ at: 00.0, model: uart.ts }] }`,
  );

  it('names models in files beside it, each with its options', async () => {
    using two = await importMachine(machine);
    const [first, second] = ['01:00.0', '02:00.0'].map((bdf) => two.function(bdf));
    expect([first!.name, second!.name, first!.id]).toEqual(['first', 'a uart', '1234:0016']);
    expect(first!.host.read(0, 0, 4)).toBe(300);
    expect(second!.declaration.classCode).toBe(0x070002);
  });

  it('that names files cannot be loaded synchronously, and the error names the call that can load it', () => {
    expect(() => loadMachine(machine)).toThrow(
      expect.objectContaining({ code: 'EINVAL', fix: "Use 'await importMachine(file)' in place of loadMachine(file)." }),
    );
  });

  it('with a wrong option or a missing file is refused with the name of either', async () => {
    const of = (device: string) => file('bad.yaml', `devices: [{ at: 04.0, ${device} }]`);
    expect((await failure(importMachine(of('model: ./uart.ts, options: { bard: 1 }')))).message).toBe(`${uart} has no option 'bard'`);
    expect(await failure(importMachine(of('model: ./uatr.ts')))).toMatchObject({
      code: 'ENOENT',
      message: `there is no file ${folder}/uatr.ts`,
    });
  });
});

describe('a file that cannot be loaded', () => {
  it('names the place: in the file, in a file that it imports, and for an error of this package with code and fix', async () => {
    const broken = file('broken.ts', '// a line\n\nthrow new Error("as I load");');
    const first = await failure(open(`sim:${broken}`));
    expect([first.code, first.message]).toEqual(['EINVAL', `${broken} cannot be loaded: as I load:\n  at ${broken}:3:7`]);
    const above = file('above.ts', "import './broken.ts';");
    expect((await failure(open(`sim:${above}`))).message).toContain(`at ${broken}:3:7`);
    const wrong = file('wrong.ts', `${imports}\n\nexport default device({ id: '1234:0001', intx: 'E' });`);
    expect(await failure(open(`sim:${wrong}`))).toMatchObject({
      code: 'EINVAL',
      message: expect.stringMatching(/intx of device\(\) is 'E'; it takes 'A', 'B', 'C' or 'D':\n {2}at .*wrong\.ts:4:\d+$/),
    });
    const misspelt = file('misspelt.ts', `${imports}\nexport default device({ id: '1234:0001', msxi: 1 });`);
    expect(await failure(open(`sim:${misspelt}`))).toMatchObject({ fix: "Did you mean 'msi'?" });
  });
});
