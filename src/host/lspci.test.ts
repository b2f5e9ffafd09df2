/**
 * The picture of a computer from the texts of lspci, as different options and versions print them.
 */
import { describe, expect, it } from 'vitest';
import { readLspci } from './lspci.ts';
import { parseLspci } from './lspci-text.ts';

const read = (text: string) => readLspci(text, 'a text');
const facts = (text: string) =>
  read(text).functions.map(({ bdf, vendor, device, classCode, group }) => ({ bdf, vendor, device, classCode, group }));

const verbose = `
00:1c.0 PCI bridge [0604]: Intel Corporation Root Port #1 [8086:a338] (rev f0) (prog-if 00 [Normal decode])
	Control: I/O+ Mem+ BusMaster+
	Status: Cap+ 66MHz-
	Interrupt: pin A routed to IRQ 122
	IOMMU group: 7
	Bus: primary=00, secondary=03, subordinate=03, sec-latency=0
	Capabilities: [40] Express (v2) Root Port (Slot+), MSI 00
		DevCap:	MaxPayload 256 bytes, PhantFunc 0
			ExtTag- RBE+
	Capabilities: [140 v1] Access Control Services
		ACSCap:	SrcValid+ TransBlk+ ReqRedir+ CmpltRedir+ UpstreamFwd- EgressCtrl- DirectTrans-
		ACSCtl:	SrcValid+ TransBlk- ReqRedir+ CmpltRedir+ UpstreamFwd- EgressCtrl- DirectTrans-
	Kernel driver in use: pcieport

03:00.0 Ethernet controller [0200]: Intel Corporation 82599ES [8086:10fb] (rev 01)
	Subsystem: Intel Corporation Ethernet Server Adapter X520-2 [8086:7a11]
	Status: Cap+ 66MHz-
	NUMA node: 1
	IOMMU group: 12
	Region 0: Memory at f0000000 (64-bit, prefetchable) [size=512K]
	Region 2: I/O ports at e020 [disabled] [size=32]
	Expansion ROM at f7c00000 [disabled] [size=512K]
	Capabilities: [a0] Express (v2) Endpoint, MSI 00
		DevCap:	MaxPayload 512 bytes, PhantFunc 0, Latency L0s <512ns, L1 <64us
			ExtTag- AttnBtn- AttnInd- PwrInd- RBE+ FLReset+ SlotPowerLimit 0W
		DevCtl:	CorrErr+ NonFatalErr+ FatalErr+ UnsupReq+ FLReset-
	Capabilities: [160 v1] Single Root I/O Virtualization (SR-IOV)
		Initial VFs: 64, Total VFs: 64, Number of VFs: 2, Function Dependency Link: 00
		VF offset: 128, stride: 2, Device ID: 10ed
		Region 0: Memory at 00000000e0000000 (64-bit, prefetchable)
	Kernel driver in use: ixgbe
	Kernel modules: ixgbe

03:10.0 Ethernet controller [0200]: Intel Corporation 82599 Virtual Function [8086:10ed]
	IOMMU group: 13
`;

describe('host: lspci -vvv -nn, as root', () => {
  it('the fabric, from port types and bus numbers', () => {
    expect(read(verbose).functions.map(({ bdf, kind, kindIsKnown, parent }) => [bdf, kind, kindIsKnown, parent])).toEqual([
      ['0000:00:1c.0', 'root-port', true, null],
      ['0000:03:00.0', 'endpoint', true, '0000:00:1c.0'],
      ['0000:03:10.0', 'endpoint', false, '0000:00:1c.0'],
    ]);
  });

  it('access control as registers; a function whose capabilities lack it has none', () => {
    const [port, nic] = read(verbose).functions;
    expect(port!.acs).toEqual({ capabilities: 0x0f, control: 0x0d });
    expect(nic!.acs).toBeNull();
  });

  it('groups, drivers, BARs with their sizes, function level reset', () => {
    const picture = read(verbose);
    expect(picture.groups!.map(({ id, functions }) => [id, functions])).toEqual([
      [7, ['0000:00:1c.0']],
      [12, ['0000:03:00.0']],
      [13, ['0000:03:10.0']],
    ]);
    const nic = picture.functions[1]!;
    expect(nic).toMatchObject({ driver: 'ixgbe', modules: ['ixgbe'], numaNode: 1, functionReset: true, subsystem: 0x7a11, revision: 1 });
    expect(nic.resources[0]).toMatchObject({ start: 0xf000_0000n, size: 0x8_0000n, kind: 'memory', wide: true, prefetchable: true });
    expect(nic.resources[2]).toMatchObject({ size: 32n, kind: 'io' });
    expect(nic.resources[6]).toMatchObject({ size: 0x8_0000n });
  });

  it('SR-IOV, and the virtual functions by their routing ids', () => {
    const [, nic, vf] = read(verbose).functions;
    expect(nic!.sriov).toMatchObject({ totalVfs: 64, numVfs: 2, firstOffset: 128, stride: 2, vfDevice: 0x10ed });
    expect(nic!.virtualFunctions).toEqual(['0000:03:10.0']);
    expect(vf!.physicalFunction).toBe('0000:03:00.0');
  });

  it('quoted in a mail, with blanks for tabs', () => {
    const quoted = verbose.replaceAll('\t', '        ').replaceAll(/^/gm, '> > ');
    expect(facts(`Hello,\n\n${quoted}\n> regards`)).toEqual(facts(verbose));
  });
});

describe('host: other texts', () => {
  it.each([
    ['lspci -n', '00:02.0 0300: 8086:3e92 (rev 02)'],
    ['lspci -nn -D', '0000:00:02.0 VGA compatible controller [0300]: Intel Corporation UHD Graphics [8086:3e92] (rev 02)'],
    ['lspci -mm -nn', '00:02.0 "VGA compatible controller [0300]" "Intel Corporation [8086]" "UHD Graphics [3e92]" -r02 "" ""'],
    [
      'lspci -vmm -nn',
      'Slot:\t00:02.0\nClass:\tVGA compatible controller [0300]\nVendor:\tIntel Corporation [8086]\nDevice:\tUHD Graphics [3e92]\nRev:\t02',
    ],
  ])('%s', (_, text) => {
    expect(facts(text)).toEqual([{ bdf: '0000:00:02.0', vendor: 0x8086, device: 0x3e92, classCode: 0x030000, group: null }]);
  });

  it.each([
    ['IOMMU Group 3:\n\t01:00.0 Audio device [0403]: Some [10de:0fb8] (rev a1)'],
    ['IOMMU Group 3 01:00.0 Audio device [0403]: Some [10de:0fb8] (rev a1)'],
    ['IOMMU group  3: 0000:01:00.0 Audio device [0403] Some [10de:0fb8] (rev a1)'],
    ['IOMMU: dmar0\n  IOMMU Group: 3\n    Group Device: 0000:01:00.0 - Audio device [0403]: Some [10de:0fb8]'],
    ['01:00.0 Audio device [0403]: Some [10de:0fb8]\n\tFlags: fast devsel, IRQ 17, IOMMU group 3'],
    ['Slot:\t01:00.0\nClass:\tAudio device [0403]\nVendor:\tX [10de]\nDevice:\tY [0fb8]\nIOMMUGroup:\t3'],
  ])('a group in %j', (text) => {
    expect(facts(text)).toEqual([{ bdf: '0000:01:00.0', vendor: 0x10de, device: 0x0fb8, classCode: 0x040300, group: 3 }]);
  });

  it('lspci -v has no numbers of regions: a wide one takes two', () => {
    const [fn] = read(
      '03:00.0 0200: 8086:10fb\n\tMemory at f0000000 (64-bit, prefetchable) [size=512K]\n\tI/O ports at e020 [size=32]',
    ).functions;
    expect(fn!.resources.map((resource) => resource?.kind ?? null)).toEqual(['memory', null, 'io', null, null, null, null]);
  });

  it('a tree of lspci -t: parents and buses', () => {
    const tree = `
-+-[0000:17]---00.0-[18]----00.0  Some device
 \\-[0000:00]-+-00.0  Host bridge
             +-1c.0-[02-04]----00.0-[03-04]--+-01.0-[04]----00.0  A card
             |                               \\-02.0-[05]--
             \\-1f.0  ISA bridge
`;
    expect(read(tree).functions.map(({ bdf, parent, secondary }) => [bdf, parent, secondary])).toEqual([
      ['0000:00:00.0', null, null],
      ['0000:00:1c.0', null, 2],
      ['0000:00:1f.0', null, null],
      ['0000:02:00.0', '0000:00:1c.0', 3],
      ['0000:03:01.0', '0000:02:00.0', 4],
      ['0000:03:02.0', '0000:02:00.0', 5],
      ['0000:04:00.0', '0000:03:01.0', null],
      ['0000:17:00.0', null, 0x18],
      ['0000:18:00.0', '0000:17:00.0', null],
    ]);
  });

  it('a dump of registers decides over the text', () => {
    const rows = ['00: 86 80 01 19 06 05 10 00 07 00 04 06 00 00 01 00', '10: 00 00 00 00 00 00 00 00 00 05 05 00 e0 e0 00 20'];
    const [fn] = read(`00:01.0 config space\n${rows.join('\n')}\n`).functions;
    expect(fn!.config.length).toBe(64);
    expect(fn).toMatchObject({ secondary: 5, kind: 'root-port', vendor: 0x8086, device: 0x1901, classCode: 0x060400, revision: 7 });
  });

  it('<access denied>: capabilities are not known, which a note says', () => {
    const { functions, notes } = read('00:1c.0 0604: 8086:a338\n\tCapabilities: <access denied>');
    expect(functions[0]).toMatchObject({ acs: undefined, kindIsKnown: false });
    expect(notes).toEqual([expect.stringContaining('did not run as root')]);
  });

  it('a second computer in the text is left out, which a note says', () => {
    const { functions, notes } = read('00:02.0 0300: 8086:3e92\n\n00:02.0 0300: 8086:1912\n00:14.0 0c03: 8086:a12f\n');
    expect(functions.map(({ bdf, device }) => [bdf, device])).toEqual([['0000:00:02.0', 0x3e92]]);
    expect(notes[0]).toContain('another computer');
  });

  it('the command line of the kernel, where the text has it', () => {
    const { kernel, commandLine } = read(
      'Linux version 6.8.0-49-generic (x)\nBOOT_IMAGE=/vmlinuz pcie_acs_override=downstream\n00:02.0 0300: 8086:3e92',
    );
    expect([kernel, commandLine]).toEqual(['6.8.0-49-generic', 'BOOT_IMAGE=/vmlinuz pcie_acs_override=downstream']);
  });

  it('no function at all: EINVAL', () => {
    expect(() => read('Dear list,\n\nit does not work.\n')).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  });

  it('any cut and any garbled line is a text, never a crash', () => {
    for (let at = 0; at < verbose.length; at += 7) {
      const cut = verbose.slice(0, at) + verbose.slice(at + 3);
      expect(read(`00:02.0 0300: 8086:3e92\n${cut}`).functions.length).toBeGreaterThan(0);
    }
  });
});

describe('host: texts of lspci that are not as lspci printed them', () => {
  const plain = '00:02.0 VGA compatible controller [0300]: Intel Corporation UHD [8086:3e92]\n\tKernel driver in use: i915\n';
  const seen = (text: string) => parseLspci(text).functions.map(({ bdf, device, driver }) => [bdf, device, driver]);
  const all = [['0000:00:02.0', 0x3e92, 'i915']];

  it.each([
    ['colours', (line: string) => `\u001b[1m${line.slice(0, 7)}\u001b[0m${line.slice(7)}`],
    ['syslog', (line: string) => `Jan  9 12:00:01 host lspci[12]: ${line}`],
    ['a journal', (line: string) => `2026-01-09T12:00:01.123+0100 host lspci[12]: ${line}`],
    ['a log of a container', (line: string) => `2026-01-09T12:00:01.123456789Z stdout F ${line}`],
    ['the log of the kernel', (line: string) => `[   12.345678] ${line}`],
    ['mail', (line: string) => `> > ${line}`],
  ])('%s', (_, decorated) => {
    expect(seen(plain.split('\n').map(decorated).join('\r\n'))).toEqual(all);
  });

  it('lines of millions of characters are cut, and take no longer than others', () => {
    const blanks = ' '.repeat(3_000_000);
    expect(seen(`01:00.0 Ethernet controller${blanks}x\n${blanks}pcie_acs_override\n${plain}`).slice(1)).toEqual(all);
  });

  it('virtual functions without a stride are one function, whatever their number', () => {
    const physical = plain.replace('\n', '\n\tCapabilities: [160 v1] Single Root I/O Virtualization (SR-IOV)\n');
    const text = `${physical}\t\tInitial VFs: 8, Total VFs: 65535, Number of VFs: 65535, Function\n\t\tVF offset: 8, stride: 0, Device ID: 1520\n00:03.0 Ethernet controller [0200]: X [8086:1520]\n`;
    expect(readLspci(text, 'x').functions.map(({ virtualFunctions }) => virtualFunctions)).toEqual([['0000:00:03.0'], []]);
  });
});
