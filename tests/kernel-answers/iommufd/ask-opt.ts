/** Options of an iommufd and of an IOAS: iommufd-opt.txt. */
import { IommufdCommand } from '../../../src/abi/iommufd.ts';
import { ALL, IommufdAsker, io, PG } from './asker.ts';

const MIB = 1 << 20;
const RLIMIT_MODE = 0;
const HUGE_PAGES = 1;
const SET = 0;
const GET = 1;

export class OptionQuestions extends IommufdAsker {
  ask(): void {
    const u = this.user;
    this.io = this.openIommu();
    this.option(RLIMIT_MODE, GET, 0, 0, 'RLIMIT_MODE GET');
    this.option(RLIMIT_MODE, SET, 0, 1, 'RLIMIT_MODE SET 1 (mm)');
    this.option(RLIMIT_MODE, GET, 0, 0, 'RLIMIT_MODE GET');
    this.option(RLIMIT_MODE, SET, 0, 2, 'RLIMIT_MODE SET 2');
    this.option(RLIMIT_MODE, SET, 1, 0, 'RLIMIT_MODE SET object 1');
    this.option(RLIMIT_MODE, 2, 0, 0, 'RLIMIT_MODE op 2');
    this.option(2, GET, 0, 0, 'option 2');
    const a = this.ioas('a');
    this.option(RLIMIT_MODE, SET, 0, 0, 'RLIMIT_MODE SET 0 with an object');
    this.option(RLIMIT_MODE, GET, 0, 0, 'RLIMIT_MODE GET');
    this.option(HUGE_PAGES, GET, a, 0, 'HUGE_PAGES GET');
    this.option(HUGE_PAGES, SET, a, 0, 'HUGE_PAGES SET 0');
    this.option(HUGE_PAGES, GET, a, 0, 'HUGE_PAGES GET');
    this.option(HUGE_PAGES, SET, a, 2, 'HUGE_PAGES SET 2');
    this.option(HUGE_PAGES, SET, a, 1, 'HUGE_PAGES SET 1');
    this.option(HUGE_PAGES, SET, 999, 1, 'HUGE_PAGES ioas 999');
    this.option(HUGE_PAGES, 2, a, 1, 'HUGE_PAGES op 2');
    this.x(this.io, io(IommufdCommand.OPTION), [24, 0, 0x1_0001, 0, 0n], 'OPTION reserved=1');
    const device = this.openCdev();
    this.bind(device, this.io, '');
    this.attach(device, a, '');
    const memory = this.anon(4 * MIB);
    this.map(a, 7, memory, 4 * MIB, 4 * MIB, '4 MiB');
    this.option(HUGE_PAGES, SET, a, 0, 'HUGE_PAGES SET 0 while mapped');
    this.unmap(a, 4 * MIB, PG, '1 page of a big mapping');
    this.unmap(a, 0, ALL, 'all');
    this.option(HUGE_PAGES, SET, a, 0, 'HUGE_PAGES SET 0 attached, empty');
    this.map(a, 7, memory, 4 * MIB, 4 * MIB, '4 MiB small pages');
    this.unmap(a, 4 * MIB, PG, '1 page of it (native, HUGE_PAGES 0)');
    this.option(HUGE_PAGES, SET, a, 1, 'HUGE_PAGES SET 1 while mapped');
    u.close(device);
    const second = this.openIommu();
    this.drop('CAP_SYS_RESOURCE', 24);
    this.option(RLIMIT_MODE, SET, 0, 1, 'RLIMIT_MODE SET without CAP_SYS_RESOURCE', second);
    this.option(RLIMIT_MODE, SET, 0, 0, 'RLIMIT_MODE SET 0 (no change) without CAP_SYS_RESOURCE', second);
  }
}
