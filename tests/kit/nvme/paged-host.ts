/**
 * For tests of the whole controller: a host whose memory is direct, remote, read-only or absent,
 * page by page.
 */
import { TestHost } from '../../../src/models/kit/test-host.ts';
import { type PageKind, TEST_PAGE, TestMemory } from './test-memory.ts';

/** Where `ControllerUnderTest` has its memory. */
const BASE = 0x10_0000;
const PAGES = 256;

export class PagedHost extends TestHost {
  readonly paged: TestMemory;

  constructor(mode: 'intx' | 'msi' | 'msix' = 'msix') {
    const paged = new TestMemory(PAGES, BigInt(BASE));
    super({ base: BigInt(BASE), memory: paged.bytes, dma: paged, mode, vectors: mode === 'msix' ? 65 : 1 });
    this.paged = paged;
  }

  /** The kind of the pages from `iova` on, from now on. */
  make(kind: PageKind, iova = BASE, pages = PAGES): void {
    const first = (iova - BASE) / TEST_PAGE;
    this.paged.kinds.fill(kind, first, first + pages);
    this.paged.epoch++;
  }
}

/** Give promises their turn. */
export async function settle(turns = 100): Promise<void> {
  for (let i = 0; i < turns; i++) await Promise.resolve();
}
