/**
 * Values, as the specifications have them, of registers that lspci prints wrongly; and the bounds
 * of capabilities that state their own length.
 */
import { expect, it } from 'vitest';
import { CapId, Config, ExtCapId } from '../../abi/pci.ts';
import { decodeConfig } from '../decode.ts';
import { formatLspci } from '../format-lspci.ts';

const AT = 0x80;

/**
 * A function with one capability behind Express; `fill` writes the capability's bytes from its
 * start.
 */
function withCapability(extended: boolean, id: number, fill: (view: DataView) => void, version = 1): string {
  const bytes = new Uint8Array(4096);
  const view = new DataView(bytes.buffer);
  bytes[Config.STATUS] = 0x10;
  bytes[Config.CAPABILITY_LIST] = 0x40;
  bytes.set([CapId.EXP, extended ? 0 : AT, 2], 0x40);
  const at = extended ? 0x100 : AT;
  fill(new DataView(bytes.buffer, at));
  if (extended) view.setUint32(at, (id | (version << 16)) >>> 0, true);
  else bytes.set([id, 0], at);
  return formatLspci(decodeConfig(bytes), 3);
}
const extended = (id: number, fill: (view: DataView) => void, version?: number) => withCapability(true, id, fill, version);
const cxl = (id: number, revision: number, length: number, fill: (view: DataView) => void) =>
  extended(ExtCapId.DVSEC, (view) => {
    view.setUint32(4, (0x1e98 | (revision << 16) | (length << 20)) >>> 0, true);
    view.setUint16(8, id, true);
    fill(view);
  });

it('pci: HyperTransport frequencies have 16 bits', () => {
  const text = withCapability(false, CapId.HT, (view) => {
    view.setUint8(0x0c, 0x40);
    view.setUint16(0x0e, 0x8100, true);
  });
  expect(text).toContain(
    'Link Frequency Capability 0: 200MHz- 300MHz- 400MHz- 500MHz- 600MHz- 800MHz- 1.0GHz- 1.2GHz- 1.4GHz+ 1.6GHz- Vend+',
  );
});

it('pci: CXL control 2 and capability 3, bit by bit', () => {
  const bits = (control: number, capability: number) =>
    cxl(0, 2, 0x3c, (view) => {
      view.setUint16(0x10, control, true);
      view.setUint16(0x38, capability, true);
    });
  expect(bits(0x04, 0x4)).toContain('DisableCaching- InitCacheWB&Inval- InitRst+ RstMemClrEn- DesiredVolatileHDMStateAfterHotReset-');
  expect(bits(0x10, 0x4)).toContain('InitRst- RstMemClrEn- DesiredVolatileHDMStateAfterHotReset+');
  expect(bits(0x10, 0x4)).toContain('ColdReset- WarmReset- HotReset+ HotResetConfigurability-');
});

it('pci: CXL ranges: 36 bits of base and size, reserved codes by number', () => {
  const text = cxl(0, 1, 0x38, (view) => {
    view.setUint32(0x18, 4, true);
    view.setUint32(0x1c, 0x1000_0000 | 0x1f0f, true);
    view.setUint32(0x20, 1, true);
    view.setUint32(0x24, 0x2000_ffff, true);
  });
  expect(text).toContain('Range1: 0000000120000000-000000052fffffff [size=0x410000000]');
  expect(text).toContain('Valid+ Active+ Type=reserved(3) Class=DRAM interleave=reserved(31) timeout=1s');
});

it('pci: 128 GT/s is the code of bit 6 of the speeds', () => {
  const bytes = new Uint8Array(256);
  const view = new DataView(bytes.buffer);
  bytes[Config.STATUS] = 0x10;
  bytes[Config.CAPABILITY_LIST] = 0x40;
  bytes.set([CapId.EXP, 0, 0x42], 0x40);
  view.setUint32(0x40 + 0x0c, 0x107, true);
  view.setUint32(0x40 + 0x2c, 0xfe, true);
  const text = formatLspci(decodeConfig(bytes), 3);
  expect(text).toContain('LnkCap:\tPort #0, Speed 128GT/s, Width x16');
  expect(text).toContain('Supported Link Speeds: 2.5-128GT/s');
});

it('pci: PCRC of an encrypted link stream is bit 8', () => {
  const stream = (control: number) =>
    extended(ExtCapId.IDE, (view) => {
      view.setUint32(4, 1, true);
      view.setUint32(12, control, true);
    });
  expect(stream(0x100)).toContain('[10c]LinkIDE#0 Ctl: En- XT- NPR- PR- CPL- PCRC+ ');
  expect(stream(0x001)).toContain('[10c]LinkIDE#0 Ctl: En+ XT- NPR- PR- CPL- PCRC- ');
});

it('pci: devices that report to an event collector, up to the last', () => {
  const bitmap = (bits: number) => extended(ExtCapId.RCEC, (view) => view.setUint32(4, bits, true));
  expect(bitmap(0xffff_ffff)).toContain('RCiEP at Device(s): 0-31\n');
  expect(bitmap(0xe000_0005)).toContain('RCiEP at Device(s): 0, 2, 29-31\n');
});

it('pci: windows and overlays of multicast above 2 GiB', () => {
  expect(extended(ExtCapId.MCAST, (view) => view.setUint16(4, 63 << 8, true))).toContain('WindowSz 63 (9223372036854775808 bytes)');
});

it.each([
  ['a locator of no length has no blocks', ExtCapId.MRBL, 0, 'Locator'],
  ['a locator shorter than its header has none either', ExtCapId.MRBL, 7, 'Locator'],
])('pci: %s', (_, id, length, word) => {
  expect(extended(id, (view) => view.setUint32(4, length, true)).split(word)).toHaveLength(2);
});

it('pci: declared links and streams end at the end of config space', () => {
  const links = extended(ExtCapId.RCLD, (view) => view.setUint32(4, 0xff00, true));
  expect(links.match(/Link\d+:\tDesc/g)!.length).toBeLessThanOrEqual((4096 - 0x100) / 16);
  const streams = extended(ExtCapId.IDE, (view) => view.setUint32(4, 0xffe003, true));
  expect(streams.match(/SelectiveIDE#\d+ Cap/g)!.length).toBeLessThanOrEqual((4096 - 0x100) / 20);
});
