import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Field } from '../base/struct.ts';
import * as structs from './vfio-structs.ts';
import { MinSize } from './vfio-structs.ts';

interface AnyStruct {
  readonly structName: string;
  readonly structSize: number;
}

const all = Object.values(structs).filter((s) => typeof s === 'object' && 'structName' in s) as unknown as AnyStruct[];

function fieldsOf(s: AnyStruct): [string, Field][] {
  return Object.entries(s).filter((e): e is [string, Field] => typeof e[1] === 'object' && e[1] !== null && 'end' in e[1]);
}

describe('B.2 structures', () => {
  it.each([
    ['vfio_info_cap_header', 8],
    ['vfio_group_status', 8],
    ['vfio_device_info', 24],
    ['vfio_region_info', 32],
    ['vfio_region_info_cap_sparse_mmap', 16],
    ['vfio_region_info_cap_type', 16],
    ['vfio_irq_info', 16],
    ['vfio_irq_set', 20],
    ['vfio_pci_dependent_device', 8],
    ['vfio_pci_hot_reset_info', 12],
    ['vfio_pci_hot_reset', 12],
    ['vfio_device_ioeventfd', 32],
    ['vfio_device_feature', 8],
    ['vfio_device_bind_iommufd', 24],
    ['vfio_device_attach_iommufd_pt', 16],
    ['vfio_device_detach_iommufd_pt', 12],
    ['vfio_device_low_power_entry_with_wakeup', 8],
    ['vfio_device_feature_dma_logging_control', 24],
    ['vfio_device_feature_dma_logging_report', 32],
    ['vfio_iommu_type1_info', 24],
    ['vfio_iommu_type1_info_cap_migration', 32],
    ['vfio_iommu_type1_info_dma_avail', 12],
    ['vfio_iommu_type1_dma_map', 32],
    ['vfio_iommu_type1_dma_unmap', 24],
    ['vfio_bitmap', 24],
    ['vfio_iommu_type1_dirty_bitmap', 8],
    ['vfio_iommu_type1_dirty_bitmap_get', 40],
  ])('B.2 %s takes %i bytes', (name, size) => {
    expect(all.find((s) => s.structName === name)?.structSize).toBe(size);
  });

  it('B.2 minsz is the end of the structure’s first version, not its size today', () => {
    expect(MinSize).toMatchObject({
      GROUP_STATUS: 8,
      DEVICE_INFO: 16,
      REGION_INFO: 32,
      IRQ_INFO: 16,
      IRQ_SET: 20,
      PCI_HOT_RESET_INFO: 12,
      PCI_HOT_RESET: 12,
      DEVICE_IOEVENTFD: 28,
      DEVICE_FEATURE: 8,
      DEVICE_BIND_IOMMUFD: 16,
      DEVICE_ATTACH_IOMMUFD_PT: 12,
      DEVICE_DETACH_IOMMUFD_PT: 8,
      IOMMU_TYPE1_INFO: 16,
      IOMMU_TYPE1_DMA_MAP: 32,
      IOMMU_TYPE1_DMA_UNMAP: 24,
      IOMMU_TYPE1_DIRTY_BITMAP: 8,
    });
  });
});

const header = '/usr/include/linux/vfio.h';
const canCompile = existsSync(header) && spawnSync('cc', ['--version']).status === 0;

/** C's name of a field of ours, whose nested structures are flattened. */
function memberOf(s: AnyStruct, field: string): string {
  if (s.structName.includes('_info_cap_') || s.structName.endsWith('_info_dma_avail')) {
    if (s.structName !== 'vfio_info_cap_header' && ['id', 'version', 'next'].includes(field)) return `header.${field}`;
  }
  return field.replace(/^bitmap_/, 'bitmap.');
}

describe.skipIf(!canCompile)(`B.2 structures against the C compiler (skipped without cc and ${header})`, () => {
  it('B.2 sizes and offsets are those of the installed header, for every structure and field it has', () => {
    const text = readFileSync(header, 'utf8');
    const lines: string[] = [];
    const expected: string[] = [];
    for (const s of all) {
      const body = new RegExp(`struct ${s.structName} \\{[\\s\\S]*?\\n\\};`).exec(text)?.[0];
      if (body === undefined) continue;
      const fields = fieldsOf(s).filter(
        ([name]) =>
          !/^(reserved|pad|id)/.test(name) &&
          new RegExp(`\\b${name.replace(/^bitmap_.*/, 'bitmap').replace(/^(version|next)$/, 'header|$1')}\\b`).test(body),
      );
      for (const [name, field] of fields) {
        const member = memberOf(s, name);
        expected.push(`${s.structName}.${member} ${field.offset}`);
        lines.push(`printf("${s.structName}.${member} %zu\\n", offsetof(struct ${s.structName}, ${member}));`);
      }
      // A structure of an older header may be shorter, never longer.
      lines.push(`if (sizeof(struct ${s.structName}) > ${s.structSize}) printf("${s.structName} %zu\\n", sizeof(struct ${s.structName}));`);
    }
    const dir = mkdtempSync(join(tmpdir(), 'vfio-ts-layout-'));
    try {
      writeFileSync(
        join(dir, 'layout.c'),
        `#include <linux/vfio.h>\n#include <stddef.h>\n#include <stdio.h>\nint main(void) {\n${lines.join('\n')}\nreturn 0;\n}\n`,
      );
      execFileSync('cc', ['-O0', '-o', join(dir, 'layout'), join(dir, 'layout.c')]);
      const said = execFileSync(join(dir, 'layout'), { encoding: 'utf8' }).trim().split('\n');
      expect(expected.length).toBeGreaterThan(60);
      expect(said).toEqual(expected);
    } finally {
      rmSync(dir, { recursive: true });
    }
  });
});
