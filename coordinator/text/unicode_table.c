/* coordinator/text/unicode_table.c - the class of every code point, Unicode 16.0.0.
 * Written by launch/gen-unicode; do not edit. Letters are explained in unicode.c.
 * Not here: what the classes mean to a scanner (scanner.c). */
#include "coordinator/text/unicode_table.h"

/* clang-format off */
const uint32_t phx_unicode_end = 0x32400;
const uint32_t phx_unicode_far_first = 0xE0100;
const uint32_t phx_unicode_far_last = 0xE01EF;

const uint8_t phx_unicode_index[1608] = {
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24,
    25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 34, 35, 36, 37, 38, 39, 34, 34, 34, 40, 41, 42, 43, 44, 45,
    46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63, 64, 64, 65, 64, 66, 67, 64,
    64, 64, 64, 68, 69, 64, 64, 64, 70, 64, 64, 71, 72, 73, 74, 75, 76, 77, 78, 79, 80, 81, 82, 83, 84,
    85, 86, 64, 64, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87,
    87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87,
    87, 87, 87, 87, 87, 88, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87,
    87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87,
    87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87,
    87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87,
    87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87,
    87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87,
    87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 34, 34, 34, 34, 34,
    34, 34, 34, 34, 89, 34, 34, 90, 91, 92, 93, 94, 95, 96, 97, 98, 99, 100, 101, 34, 34, 34, 34, 34, 34,
    34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34,
    34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34,
    34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34,
    34, 34, 34, 34, 34, 34, 102, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103,
    103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103,
    103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 87, 87,
    104, 105, 106, 107, 34, 34, 108, 109, 110, 111, 112, 113, 114, 115, 116, 117, 103, 118, 119, 120, 121, 122, 123, 124, 34,
    34, 125, 126, 127, 128, 129, 130, 131, 132, 133, 134, 135, 136, 137, 138, 139, 140, 141, 142, 143, 144, 145, 146, 147, 148,
    149, 150, 151, 152, 103, 153, 154, 155, 156, 103, 157, 158, 159, 160, 161, 162, 163, 164, 165, 166, 167, 168, 103, 169, 170,
    171, 34, 34, 34, 34, 34, 34, 34, 172, 173, 34, 174, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103,
    103, 103, 103, 103, 103, 103, 103, 175, 34, 34, 34, 34, 34, 34, 34, 34, 176, 34, 34, 34, 34, 34, 34, 34, 34,
    34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 115, 34, 34,
    34, 34, 177, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103,
    103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103,
    103, 103, 103, 103, 103, 103, 178, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 34, 34, 34, 34, 179,
    180, 181, 182, 103, 103, 183, 103, 184, 185, 186, 187, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34,
    34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34, 34,
    34, 34, 34, 34, 34, 34, 34, 34, 188, 34, 34, 34, 34, 34, 34, 34, 34, 34, 189, 190, 103, 103, 103, 103, 103,
    103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103,
    103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103,
    103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 191, 34, 34, 192, 34, 34, 193, 103, 103, 103, 103, 103,
    103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 194, 195, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103,
    103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 64, 196, 64, 64, 64,
    197, 198, 199, 64, 200, 201, 202, 203, 204, 205, 103, 206, 207, 208, 209, 210, 211, 212, 213, 64, 64, 64, 64, 214, 215,
    103, 103, 103, 103, 103, 103, 103, 103, 216, 103, 217, 218, 219, 103, 103, 220, 103, 103, 103, 221, 103, 222, 103, 103, 103,
    223, 34, 224, 225, 103, 103, 103, 103, 103, 226, 227, 228, 103, 229, 230, 103, 103, 231, 232, 233, 234, 235, 103, 64, 64,
    64, 64, 64, 64, 64, 236, 237, 238, 239, 240, 64, 64, 241, 242, 64, 243, 103, 103, 103, 103, 103, 103, 103, 103, 87,
    87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87,
    87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87,
    87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87,
    87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87,
    87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87,
    87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87,
    87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87,
    87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87,
    87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87,
    87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87,
    87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87,
    87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87,
    87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87,
    87, 87, 87, 87, 87, 87, 87, 244, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87,
    87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 245, 87, 246, 87, 87, 87, 87, 87, 87, 87,
    87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87,
    87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 247, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87,
    87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87,
    87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 248, 87, 87, 87, 87,
    249, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 87, 87, 87, 87, 250,
    103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 103, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87,
    87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 251,
    87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87, 87,
    87, 87, 87, 87, 87, 87, 87, 252,
};

const char phx_unicode_blocks[253][PHX_UNICODE_BLOCK + 1] = {
    "---------wwwww------------------wPPPSPPPPPPSPPPPNNNNNNNNNNPPSSSP"
    "PUUUUUUUUUUUUUUUUUUUUUUUUUUPPPSPSllllllllllllllllllllllllllPSPS-",
    "-----w--------------------------wPSSSSSPSSoPS-SSSSNNSlPPSNoPNNNP"
    "UUUUUUUUUUUUUUUUUUUUUUUSUUUUUUUllllllllllllllllllllllllSllllllll",
    "UlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUllUlUlUlU"
    "lUlUlUlUllUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUUlUlUll",
    "lUUlUlUUlUUUllUUUUlUUlUUUlllUUlUUlUlUlUUlUllUlUUlUUUlUlUUlloUlll"
    "ooooUUlUUlUUlUlUlUlUlUlUlUlUllUlUlUlUlUlUlUlUlUllUUlUlUUUlUlUlUl",
    "UlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlllllllUUlUUl"
    "lUlUUUUlUlUlUlUlllllllllllllllllllllllllllllllllllllllllllllllll",
    "llllllllllllllllllllollllllllllllllllllllllllllloooooooooooooooo"
    "ooSSSSooooooooooooSSSSSSSSSSSSSSoooooSSSSSSSoSoSSSSSSSSSSSSSSSSS",
    "MMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMM"
    "MMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMUlUloSUl--olllPU",
    "----SSUPUUU-U-UUlUUUUUUUUUUUUUUUUU-UUUUUUUUUllllllllllllllllllll"
    "lllllllllllllllUllUUUlllUlUlUlUlUlUlUlUlUlUlUlUlllllUlSUlUUllUUU",
    "UUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUllllllllllllllll"
    "llllllllllllllllllllllllllllllllUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUl",
    "UlSMMMMMMMUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUl"
    "UUlUlUlUlUlUlUllUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUl",
    "UlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUl-UUUUUUUUUUUUUUU"
    "UUUUUUUUUUUUUUUUUUUUUUU--oPPPPPPllllllllllllllllllllllllllllllll",
    "lllllllllPP--SSS-MMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMPM"
    "PMMPMMPM--------ooooooooooooooooooooooooooo----ooooPP-----------",
    "------SSSPPSPPSSMMMMMMMMMMMP-PPPoooooooooooooooooooooooooooooooo"
    "oooooooooooMMMMMMMMMMMMMMMMMMMMMNNNNNNNNNNPPPPooMooooooooooooooo",
    "oooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooo"
    "ooooooooooooooooooooPoMMMMMMM-SMMMMMMooMMSMMMMooNNNNNNNNNNoooSSo",
    "PPPPPPPPPPPPPP--oMooooooooooooooooooooooooooooooMMMMMMMMMMMMMMMM"
    "MMMMMMMMMMM--ooooooooooooooooooooooooooooooooooooooooooooooooooo",
    "ooooooooooooooooooooooooooooooooooooooMMMMMMMMMMMo--------------"
    "NNNNNNNNNNoooooooooooooooooooooooooooooooooMMMMMMMMMooSPPPo--MSS",
    "ooooooooooooooooooooooMMMMoMMMMMMMMMoMMMoMMMMM--PPPPPPPPPPPPPPP-"
    "oooooooooooooooooooooooooMMM--P-ooooooooooo-----oooooooooooooooo",
    "ooooooooSoooooo--------MMMMMMMMMoooooooooooooooooooooooooooooooo"
    "ooooooooooMMMMMMMMMMMMMMMMMMMMMMMM-MMMMMMMMMMMMMMMMMMMMMMMMMMMMM",
    "MMMMooooooooooooooooooooooooooooooooooooooooooooooooooooooMMMoMM"
    "MMMMMMMMMMMMMMMMoMMMMMMMooooooooooMMPPNNNNNNNNNNPooooooooooooooo",
    "oMMM-oooooooo--oo--oooooooooooooooooooooo-ooooooo-o---oooo--MoMM"
    "MMMMM--MM--MMMo--------M----oo-oooMM--NNNNNNNNNNooSSNNNNNNSSoPM-",
    "-MMM-oooooo----oo--oooooooooooooooooooooo-ooooooo-oo-oo-oo--M-MM"
    "MMM----MM--MMM---M-------oooo-o-------NNNNNNNNNNMMoooMP---------",
    "-MMM-ooooooooo-ooo-oooooooooooooooooooooo-ooooooo-oo-ooooo--MoMM"
    "MMMMMM-MMM-MMM--o---------------ooMM--NNNNNNNNNNPS-------oMMMMMM",
    "-MMM-oooooooo--oo--oooooooooooooooooooooo-ooooooo-oo-ooooo--MoMM"
    "MMMMM--MM--MMM-------MMM----oo-oooMM--NNNNNNNNNNSoNNNNNN--------",
    "--Mo-oooooo---ooo-oooo---oo-o-oo---oo---ooo---oooooooooooo----MM"
    "MMM---MMM-MMMM--o------M--------------NNNNNNNNNNNNNSSSSSSSS-----",
    "MMMMMoooooooo-ooo-ooooooooooooooooooooooo-oooooooooooooooo--MoMM"
    "MMMMM-MMM-MMMM-------MM-ooo--o--ooMM--NNNNNNNNNN-------PNNNNNNNS",
    "oMMMPoooooooo-ooo-ooooooooooooooooooooooo-oooooooooo-ooooo--MoMM"
    "MMMMM-MMM-MMMM-------MM------oo-ooMM--NNNNNNNNNN-ooM------------",
    "MMMMooooooooo-ooo-oooooooooooooooooooooooooooooooooooooooooMMoMM"
    "MMMMM-MMM-MMMMoS----oooMNNNNNNNoooMM--NNNNNNNNNNNNNNNNNNNSoooooo",
    "-MMM-oooooooooooooooooo---oooooooooooooooooooooooo-ooooooooo-o--"
    "ooooooo---M----MMMMMM-M-MMMMMMMM------NNNNNNNNNN--MMP-----------",
    "-ooooooooooooooooooooooooooooooooooooooooooooooooMooMMMMMMM----S"
    "oooooooMMMMMMMMPNNNNNNNNNNPP------------------------------------",
    "-oo-o-ooooo-oooooooooooooooooooooooo-o-ooooooooooMooMMMMMMMMMo--"
    "ooooo-o-MMMMMMM-NNNNNNNNNN--oooo--------------------------------",
    "oSSSPPPPPPPPPPPPPPPSPSSSMMSSSSSSNNNNNNNNNNNNNNNNNNNNSMSMSMPPPPMM"
    "oooooooo-oooooooooooooooooooooooooooooooooooo----MMMMMMMMMMMMMMM",
    "MMMMMPMMoooooMMMMMMMMMMM-MMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMM-SS"
    "SSSSSSMSSSSSS-SSPPPPPSSSSPP-------------------------------------",
    "oooooooooooooooooooooooooooooooooooooooooooMMMMMMMMMMMMMMMMMMMMo"
    "NNNNNNNNNNPPPPPPooooooMMMMooooMMMoMMMooMMMMMMMoooMMMMooooooooooo",
    "ooMMMMMMMMMMMMoMNNNNNNNNNNMMMMSSUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUU"
    "UUUUUU-U-----U--lllllllllllllllllllllllllllllllllllllllllllPolll",
    "oooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooo"
    "oooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooo",
    "oooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooo"
    "ooooooooo-oooo--ooooooo-o-oooo--oooooooooooooooooooooooooooooooo",
    "ooooooooo-oooo--ooooooooooooooooooooooooooooooooo-oooo--ooooooo-"
    "o-oooo--ooooooooooooooo-oooooooooooooooooooooooooooooooooooooooo",
    "ooooooooooooooooo-oooo--oooooooooooooooooooooooooooooooooooooooo"
    "ooooooooooooooooooooooooooo--MMMPPPPPPPPPNNNNNNNNNNNNNNNNNNNN---",
    "ooooooooooooooooSSSSSSSSSS------UUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUU"
    "UUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUU--llllll--",
    "Pooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooo"
    "oooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooo",
    "oooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooo"
    "oooooooooooooooooooooooooooooooooooooooooooooSPooooooooooooooooo",
    "wooooooooooooooooooooooooooPP---oooooooooooooooooooooooooooooooo"
    "oooooooooooooooooooooooooooooooooooooooooooPPPNNNoooooooo-------",
    "ooooooooooooooooooMMMM---------oooooooooooooooooooMMMPP---------"
    "ooooooooooooooooooMM------------ooooooooooooo-ooo-MM------------",
    "ooooooooooooooooooooooooooooooooooooooooooooooooooooMMMMMMMMMMMM"
    "MMMMMMMMMMMMMMMMMMMMPPPoPPPSoM--NNNNNNNNNN------NNNNNNNNNN------",
    "PPPPPPPPPPPMMM-MNNNNNNNNNN------oooooooooooooooooooooooooooooooo"
    "ooooooooooooooooooooooooooooooooooooooooooooooooooooooooo-------",
    "oooooMMooooooooooooooooooooooooooooooooooMo-----oooooooooooooooo"
    "oooooooooooooooooooooooooooooooooooooooooooooooooooooo----------",
    "ooooooooooooooooooooooooooooooo-MMMMMMMMMMMM----MMMMMMMMMMMM----"
    "S---PPNNNNNNNNNNoooooooooooooooooooooooooooooo--ooooo-----------",
    "oooooooooooooooooooooooooooooooooooooooooooo----oooooooooooooooo"
    "oooooooooo------NNNNNNNNNNN---SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS",
    "oooooooooooooooooooooooMMMMM--PPoooooooooooooooooooooooooooooooo"
    "oooooooooooooooooooooMMMMMMMMMM-MMMMMMMMMMMMMMMMMMMMMMMMMMMMM--M",
    "NNNNNNNNNN------NNNNNNNNNN------PPPPPPPoPPPPPP--MMMMMMMMMMMMMMMM"
    "MMMMMMMMMMMMMMM-------------------------------------------------",
    "MMMMMoooooooooooooooooooooooooooooooooooooooooooooooMMMMMMMMMMMM"
    "MMMMMoooooooo-PPNNNNNNNNNNPPPPPPPSSSSSSSSSSMMMMMMMMMSSSSSSSSSPPP",
    "MMMooooooooooooooooooooooooooooooMMMMMMMMMMMMMooNNNNNNNNNNoooooo"
    "ooooooooooooooooooooooooooooooooooooooMMMMMMMMMMMMMM--------PPPP",
    "ooooooooooooooooooooooooooooooooooooMMMMMMMMMMMMMMMMMMMM---PPPPP"
    "NNNNNNNNNN---oooNNNNNNNNNNooooooooooooooooooooooooooooooooooooPP",
    "lllllllllUl-----UUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUU--UUU"
    "PPPPPPPP--------MMMPMMMMMMMMMMMMMMMMMMMMMooooMooooooMooMMMo-----",
    "lllllllllllllllllllllllllllllllllllllllllllloooooooooooooooooooo"
    "ooooooooooooooooooooooooooooooooooooooooooolllllllllllllolllllll",
    "lllllllllllllllllllllllllllooooooooooooooooooooooooooooooooooooo"
    "MMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMM",
    "UlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUl"
    "UlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUl",
    "UlUlUlUlUlUlUlUlUlUlUlllllllllUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUl"
    "UlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUl",
    "llllllllUUUUUUUUllllll--UUUUUU--llllllllUUUUUUUUllllllllUUUUUUUU"
    "llllll--UUUUUU--llllllll-U-U-U-UllllllllUUUUUUUUllllllllllllll--",
    "llllllllUUUUUUUUllllllllUUUUUUUUllllllllUUUUUUUUlllll-llUUUUUSlS"
    "SSlll-llUUUUUSSSllll--llUUUU-SSSllllllllUUUUUSSS--lll-llUUUUUSS-",
    "wwwwwwwwwww-----PPPPPPPPPPPPPPPPPPPPPPPPww-----wPPPPPPPPPPPPPPPP"
    "PPPPSPPPPPPPPPPPPPSPPPPPPPPPPPPw----------------No--NNNNNNSSSPPo",
    "NNNNNNNNNNSSSPP-ooooooooooooo---SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS"
    "S---------------MMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMM---------------",
    "SSUSSSSUSSlUUUllUUUlSUSSSUUUUUSSSSSSUSUSUSUUUUSlUUUUloooolSSllUU"
    "SSSSSUllllSSSSlSNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNN",
    "NNNUlNNNNNSS----SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS"
    "SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS",
    "SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS"
    "SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS",
    "SSSSSSSSPPPPSSSSSSSSSSSSSSSSSSSSSSSSSSSSSPPSSSSSSSSSSSSSSSSSSSSS"
    "SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS",
    "SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS----------------------"
    "SSSSSSSSSSS---------------------NNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNN",
    "NNNNNNNNNNNNNNNNNNNNNNNNNNNNSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS"
    "SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSNNNNNNNNNNNNNNNNNNNNNN",
    "SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS"
    "SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSPPPPPPPPPPPPPPNNNNNNNNNN",
    "NNNNNNNNNNNNNNNNNNNNSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS"
    "SSSSSPPSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSPPPPPPPPPPSSSSSSSSSSSSSSSS",
    "SSSPPPPPPPPPPPPPPPPPPPPPPSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS"
    "SSSSSSSSSSSSSSSSSSSSSSSSPPPPSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSPPSS",
    "SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS"
    "SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS--SSSSSSSSSS",
    "SSSSSSSSSSSSSSSSSSSSSS-SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS"
    "SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS",
    "UUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUllllllllllllllll"
    "llllllllllllllllllllllllllllllllUlUUUllUlUlUlUUUUlUllUllllllooUU",
    "UlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUl"
    "UlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUllSSSSSSUlUlMMMUl-----PPPPNPP",
    "llllllllllllllllllllllllllllllllllllll-l-----l--oooooooooooooooo"
    "oooooooooooooooooooooooooooooooooooooooo-------oP--------------M",
    "ooooooooooooooooooooooo---------ooooooo-ooooooo-ooooooo-ooooooo-"
    "ooooooo-ooooooo-ooooooo-ooooooo-MMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMM",
    "PPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPoPPPPPPPPPPPPPPPP"
    "PPPPPPPPPPPPPPPPSSPPPPPPPPPPPP----------------------------------",
    "ssssssssssssssssssssssssss-sssssssssssssssssssssssssssssssssssss"
    "ssssssssssssssssssssssssssssssssssssssssssssssssssss------------",
    "ssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssss"
    "ssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssss",
    "ssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssss"
    "ssssssssssssssssssssss--------------------------SSSSSSSSSSSSSSSS",
    "wPPPShonPPPPPPPPPPSSPPPPPPPPPPPPSnnnnnnnnnMMMMMMPoooooSSnnnhoPSS"
    "-ooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooo",
    "ooooooooooooooooooooooo--MMSSoooPooooooooooooooooooooooooooooooo"
    "oooooooooooooooooooooooooooooooooooooooooooooooooooooooooooPoooo",
    "-----ooooooooooooooooooooooooooooooooooooooooooo-ooooooooooooooo"
    "oooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooo",
    "ooooooooooooooo-SSNNNNSSSSSSSSSSoooooooooooooooooooooooooooooooo"
    "SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS---------Soooooooooooooooo",
    "SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS-NNNNNNNNNNSSSSSSSSSSSSSSSSSSSSSS"
    "SSSSSSSSNNNNNNNNSNNNNNNNNNNNNNNNSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS",
    "NNNNNNNNNNSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSNNNNNNNNNNNNNNN"
    "SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS",
    "hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh"
    "hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh",
    "hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh"
    "SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS",
    "ooooooooooooo---SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS"
    "SSSSSSS---------ooooooooooooooooooooooooooooooooooooooooooooooPP",
    "oooooooooooooPPPooooooooooooooooNNNNNNNNNNoo--------------------"
    "UlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUloMMMMPMMMMMMMMMMPo",
    "UlUlUlUlUlUlUlUlUlUlUlUlUlUlooMMoooooooooooooooooooooooooooooooo"
    "ooooooooooooooooooooooooooooooooooooooNNNNNNNNNNMMPPPPPP--------",
    "SSSSSSSSSSSSSSSSSSSSSSSoooooooooSSUlUlUlUlUlUlUlllUlUlUlUlUlUlUl"
    "UlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlUlollllllllUlUlUUl",
    "UlUlUlUloSSUlUloUlUlllUlUlUlUlUlUlUlUlUlUlUUUUUlUUUUUlUlUlUlUlUl"
    "UlUlUUUUlUlUUl--Ul-l-lUlUlUlU---------------------oooUlooolooooo",
    "ooMoooMooooMoooooooooooooooooooooooMMMMMSSSSM---NNNNNNSSSS------"
    "ooooooooooooooooooooooooooooooooooooooooooooooooooooPPPP--------",
    "MMooooooooooooooooooooooooooooooooooooooooooooooooooMMMMMMMMMMMM"
    "MMMMMM--------PPNNNNNNNNNN------MMMMMMMMMMMMMMMMMMooooooPPPoPooM",
    "NNNNNNNNNNooooooooooooooooooooooooooooMMMMMMMMPPoooooooooooooooo"
    "oooooooMMMMMMMMMMMMM-----------Pooooooooooooooooooooooooooooo---",
    "MMMMoooooooooooooooooooooooooooooooooooooooooooooooMMMMMMMMMMMMM"
    "MPPPPPPPPPPPPP-oNNNNNNNNNN----PPoooooMooooooooooNNNNNNNNNNooooo-",
    "oooooooooooooooooooooooooooooooooooooooooMMMMMMMMMMMMMM---------"
    "oooMooooooooMM--NNNNNNNNNN--PPPPoooooooooooooooooooooooSSSoMMMoo",
    "ooooooooooooooooooooooooooooooooooooooooooooooooMoMMMooMMoooooMM"
    "oMo------------------------oooPPoooooooooooMMMMMPPoooMM---------",
    "-oooooo--oooooo--oooooo---------ooooooo-ooooooo-llllllllllllllll"
    "lllllllllllllllllllllllllllSoooollllllllloSS----llllllllllllllll",
    "llllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllll"
    "oooooooooooooooooooooooooooooooooooMMMMMMMMPMM--NNNNNNNNNN------",
    "oooooooooooooooooooooooooooooooooooo------------oooooooooooooooo"
    "ooooooo----ooooooooooooooooooooooooooooooooooooooooooooooooo----",
    "----------------------------------------------------------------"
    "----------------------------------------------------------------",
    "hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh"
    "hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh--hhhhhhhhhhhhhhhh",
    "hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh"
    "hhhhhhhhhhhhhhhhhhhhhhhhhh--------------------------------------",
    "lllllll------------lllll-----oMooooooooooSooooooooooooo-ooooo-o-"
    "oo-oo-oooooooooooooooooooooooooooooooooooooooooooooooooooooooooo",
    "ooooooooooooooooooooooooooooooooooooooooooooooooooSSSSSSSSSSSSSS"
    "SSS----------------ooooooooooooooooooooooooooooooooooooooooooooo",
    "ooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooPP"
    "SSSSSSSSSSSSSSSSoooooooooooooooooooooooooooooooooooooooooooooooo",
    "oooooooooooooooo--oooooooooooooooooooooooooooooooooooooooooooooo"
    "oooooooo-------S--------------------------------ooooooooooooSSSS",
    "MMMMMMMMMMMMMMMMPPPPPPPPPP------MMMMMMMMMMMMMMMMPPPPPPPPPPPPPPPP"
    "PPPPPPPPPPPPPPPPPPP-PPPPPPPPPPPPPPSPSSS-PSPP----ooooo-oooooooooo",
    "oooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooo"
    "ooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooo---",
    "-PPPSPPPPPPSPPPPNNNNNNNNNNPPSSSPPUUUUUUUUUUUUUUUUUUUUUUUUUUPPPSP"
    "SllllllllllllllllllllllllllPSPSPPPPPPPoooooooooooooooooooooooooo",
    "ooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooo-"
    "--oooooo--oooooo--oooooo--ooo---SSSSSSS-SSSSSSS-------------SS--",
    "oooooooooooo-oooooooooooooooooooooooooo-ooooooooooooooooooo-oo-o"
    "oooooooooooooo--oooooooooooooo----------------------------------",
    "oooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooo"
    "ooooooooooooooooooooooooooooooooooooooooooooooooooooooooooo-----",
    "PPP----NNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNN---SSSSSSSSS"
    "NNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNSSSSSSS",
    "SSSSSSSSSSNNSSS-SSSSSSSSSSSSS---S-------------------------------"
    "----------------SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSM--",
    "ooooooooooooooooooooooooooooo---oooooooooooooooooooooooooooooooo"
    "ooooooooooooooooo---------------MNNNNNNNNNNNNNNNNNNNNNNNNNNN----",
    "ooooooooooooooooooooooooooooooooNNNN---------ooooooooooooooooooo"
    "oNooooooooN-----ooooooooooooooooooooooooooooooooooooooMMMMM-----",
    "oooooooooooooooooooooooooooooo-Poooooooooooooooooooooooooooooooo"
    "oooo----ooooooooPNNNNN------------------------------------------",
    "UUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUllllllllllllllllllllllll"
    "lllllllllllllllloooooooooooooooooooooooooooooooooooooooooooooooo",
    "oooooooooooooooooooooooooooooo--NNNNNNNNNN------UUUUUUUUUUUUUUUU"
    "UUUUUUUUUUUUUUUUUUUU----llllllllllllllllllllllllllllllllllll----",
    "oooooooooooooooooooooooooooooooooooooooo--------oooooooooooooooo"
    "oooooooooooooooooooooooooooooooooooo-----------PUUUUUUUUUUU-UUUU",
    "UUUUUUUUUUU-UUUUUUU-UU-lllllllllll-lllllllllllllll-lllllll-ll---"
    "oooooooooooooooooooooooooooooooooooooooooooooooooooo------------",
    "ooooooooooooooooooooooooooooooooooooooooooooooooooooooo---------"
    "oooooooooooooooooooooo----------oooooooo------------------------",
    "oooooo-oooooooooooooooooooooooooooooooooooooooooo-ooooooooo-----"
    "----------------------------------------------------------------",
    "oooooo--o-oooooooooooooooooooooooooooooooooooooooooooo-oo---o--o"
    "oooooooooooooooooooooo-PNNNNNNNNoooooooooooooooooooooooSSNNNNNNN",
    "ooooooooooooooooooooooooooooooo--------NNNNNNNNN----------------"
    "--------------------------------ooooooooooooooooooo-oo-----NNNNN",
    "ooooooooooooooooooooooNNNNNN---Poooooooooooooooooooooooooo-----P"
    "----------------------------------------------------------------",
    "oooooooooooooooooooooooooooooooooooooooooooooooooooooooo----NNoo"
    "NNNNNNNNNNNNNNNN--NNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNN",
    "oMMM-MM-----MMMMoooo-ooo-ooooooooooooooooooooooooooooo--MMM----M"
    "NNNNNNNNN-------PPPPPPPPP-------oooooooooooooooooooooooooooooNNP",
    "oooooooooooooooooooooooooooooNNN--------------------------------"
    "ooooooooSooooooooooooooooooooooooooooMM----NNNNNPPPPPPP---------",
    "oooooooooooooooooooooooooooooooooooooooooooooooooooooo---PPPPPPP"
    "oooooooooooooooooooooo--NNNNNNNNooooooooooooooooooo-----NNNNNNNN",
    "oooooooooooooooooo-------PPPP------------NNNNNNN----------------"
    "----------------------------------------------------------------",
    "oooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooo"
    "ooooooooo-------------------------------------------------------",
    "UUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUU-------------"
    "lllllllllllllllllllllllllllllllllllllllllllllllllll-------NNNNNN",
    "ooooooooooooooooooooooooooooooooooooMMMM--------NNNNNNNNNN------"
    "NNNNNNNNNNooooooUUUUUUUUUUUUUUUUUUUUUU---MMMMMPollllllllllllllll",
    "llllll--------SS------------------------------------------------"
    "----------------------------------------------------------------",
    "----------------------------------------------------------------"
    "--------------------------------NNNNNNNNNNNNNNNNNNNNNNNNNNNNNNN-",
    "oooooooooooooooooooooooooooooooooooooooooo-MMP--oo--------------"
    "--ooo-------------------------------------------------------MMMM",
    "oooooooooooooooooooooooooooooNNNNNNNNNNo--------oooooooooooooooo"
    "ooooooMMMMMMMMMMMNNNNPPPPP----------------------oooooooooooooooo",
    "ooMMMMPPPP--------------------------------------oooooooooooooooo"
    "oooooNNNNNNN--------------------ooooooooooooooooooooooo---------",
    "MMMoooooooooooooooooooooooooooooooooooooooooooooooooooooMMMMMMMM"
    "MMMMMMMPPPPPPP----NNNNNNNNNNNNNNNNNNNNNNNNNNNNNNMooMMo---------M",
    "MMMoooooooooooooooooooooooooooooooooooooooooooooMMMMMMMMMMMPP-PP"
    "PPM-------------ooooooooooooooooooooooooo-------NNNNNNNNNN------",
    "MMMooooooooooooooooooooooooooooooooooooMMMMMMMMMMMMMM-NNNNNNNNNN"
    "PPPPoMMo--------oooooooooooooooooooooooooooooooooooMPPo---------",
    "MMMooooooooooooooooooooooooooooooooooooooooooooooooMMMMMMMMMMMMM"
    "MooooPPPPMMMMPMMNNNNNNNNNNoPoPPP-NNNNNNNNNNNNNNNNNNNN-----------",
    "oooooooooooooooooo-oooooooooooooooooooooooooMMMMMMMMMMMMPPPPPPMo"
    "oM--------------------------------------------------------------",
    "ooooooo-o-oooo-ooooooooooooooo-ooooooooooP------oooooooooooooooo"
    "oooooooooooooooooooooooooooooooMMMMMMMMMMMM-----NNNNNNNNNN------",
    "MMMM-oooooooo--oo--oooooooooooooooooooooo-ooooooo-oo-ooooo-MMoMM"
    "MMMMM--MM--MMM--o------M-----oooooMM--MMMMMMM---MMMMM-----------",
    "oooooooooo-o--o-oooooooooooooooooooooooooooooooooooooo-oMMMMMMMM"
    "M-M--M-MMMM-MMMMMoMoPP-PP--------MM-----------------------------",
    "oooooooooooooooooooooooooooooooooooooooooooooooooooooMMMMMMMMMMM"
    "MMMMMMMooooPPPPPNNNNNNNNNNPP-PMooo------------------------------",
    "ooooooooooooooooooooooooooooooooooooooooooooooooMMMMMMMMMMMMMMMM"
    "MMMMooPo--------NNNNNNNNNN--------------------------------------",
    "oooooooooooooooooooooooooooooooooooooooooooooooMMMMMMM--MMMMMMMM"
    "MPPPPPPPPPPPPPPPPPPPPPPPooooMM----------------------------------",
    "ooooooooooooooooooooooooooooooooooooooooooooooooMMMMMMMMMMMMMMMM"
    "MPPPo-----------NNNNNNNNNN------PPPPPPPPPPPPP-------------------",
    "oooooooooooooooooooooooooooooooooooooooooooMMMMMMMMMMMMMoP------"
    "NNNNNNNNNN------NNNNNNNNNNNNNNNNNNNN----------------------------",
    "ooooooooooooooooooooooooooo--MMMMMMMMMMMMMMM----NNNNNNNNNNNNPPPS"
    "ooooooo---------------------------------------------------------",
    "ooooooooooooooooooooooooooooooooooooooooooooMMMMMMMMMMMMMMMP----"
    "----------------------------------------------------------------",
    "--------------------------------UUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUU"
    "llllllllllllllllllllllllllllllllNNNNNNNNNNNNNNNNNNN------------o",
    "ooooooo--o--oooooooo-oo-ooooooooooooooooooooooooMMMMMM-MM--MMMMo"
    "MoMMPPP---------NNNNNNNNNN--------------------------------------",
    "--------------------------------oooooooo--oooooooooooooooooooooo"
    "oooooooooooooooooMMMMMMM--MMMMMMMoPoM---------------------------",
    "oMMMMMMMMMMooooooooooooooooooooooooooooooooooooooooMMMMMMMoMMMMP"
    "PPPPPPPM--------oMMMMMMMMMMMoooooooooooooooooooooooooooooooooooo",
    "ooooooooooMMMMMMMMMMMMMMMMPPPoPPPPP-------------oooooooooooooooo"
    "ooooooooooooooooooooooooooooooooooooooooooooooooooooooooo-------",
    "PPPPPPPPPP------------------------------------------------------"
    "----------------------------------------------------------------",
    "----------------------------------------------------------------"
    "oooooooooooooooooooooooooooooooooP--------------NNNNNNNNNN------",
    "ooooooooo-oooooooooooooooooooooooooooooooooooooMMMMMMMM-MMMMMMMM"
    "oPPPPP----------NNNNNNNNNNNNNNNNNNNNNNNNNNNNN---PPoooooooooooooo",
    "oooooooooooooooo--MMMMMMMMMMMMMMMMMMMMMM-MMMMMMMMMMMMMM---------"
    "----------------------------------------------------------------",
    "ooooooo-oo-ooooooooooooooooooooooooooooooooooooooMMMMMM---M-MM-M"
    "MMMMMMoM--------NNNNNNNNNN------oooooo-oo-oooooooooooooooooooooo",
    "ooooooooooMMMMM-MM-MMMMMo-------NNNNNNNNNN----------------------"
    "----------------------------------------------------------------",
    "----------------------------------------------------------------"
    "--------------------------------oooooooooooooooooooMMMMPP-------",
    "MMoMooooooooooooo-ooooooooooooooooooooooooooooooooooMMMMMMM---MM"
    "MMMPPPPPPPPPPPPPNNNNNNNNNNM-------------------------------------",
    "------------------------------------------------o---------------"
    "NNNNNNNNNNNNNNNNNNNNNSSSSSSSSSSSSSSSSSSSSSSSSSSSSS-------------P",
    "oooooooooooooooooooooooooo--------------------------------------"
    "----------------------------------------------------------------",
    "NNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNN"
    "NNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNN-PPPPP-----------",
    "oooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooo"
    "oooo------------------------------------------------------------",
    "----------------oooooooooooooooooooooooooooooooooooooooooooooooo"
    "oooooooooooooooooooooooooooooooooooooooooooooooooPP-------------",
    "oooooooooooooooooooooooooooooooooooooooooooooooo----------------"
    "MooooooMMMMMMMMMMMMMMM----------oooooooooooooooooooooooooooooooo",
    "oooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooo"
    "ooooooo---------------------------------------------------------",
    "ooooooooooooooooooooooooooooooMMMMMMMMMMMMMMMMMMNNNNNNNNNN------"
    "----------------------------------------------------------------",
    "ooooooooooooooooooooooooooooooooooooooooooooooooooooooooo-------"
    "ooooooooooooooooooooooooooooooo-NNNNNNNNNN----PPoooooooooooooooo",
    "ooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooo-"
    "NNNNNNNNNN------oooooooooooooooooooooooooooooo--MMMMMP----------",
    "ooooooooooooooooooooooooooooooooooooooooooooooooMMMMMMMPPPPPSSSS"
    "ooooPS----------NNNNNNNNNN-NNNNNNN-ooooooooooooooooooooo-----ooo",
    "oooooooooooooooo------------------------------------------------"
    "----------------------------------------------------------------",
    "----------------------------------------------------------------"
    "oooooooooooooooooooooooooooooooooooooooooooooPPPNNNNNNNNNN------",
    "----------------------------------------------------------------"
    "UUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUllllllllllllllllllllllllllllllll",
    "NNNNNNNNNNNNNNNNNNNNNNNPPPP-------------------------------------"
    "----------------------------------------------------------------",
    "oooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooo"
    "ooooooooooo----MoMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMM",
    "MMMMMMMM-------MMMMooooooooooooo--------------------------------"
    "--------------------------------oophM-----------mm--------------",
    "oooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooo"
    "oooooooooooooooooooooooooooooooooooooooooooooooooooooooo--------",
    "oooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooo"
    "oooooooooooooooooooooo-----------------------------------------o",
    "ooooooooo-------------------------------------------------------"
    "----------------------------------------------------------------",
    "----------------------------------------------------------------"
    "------------------------------------------------oooo-ooooooo-oo-",
    "ooooooooooooooooooooooooooooooooooo---------------o-------------"
    "----------------ooo--o--------------oooo--------oooooooooooooooo",
    "oooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooo"
    "oooooooooooooooooooooooooooooooooooooooooooooooooooooooooooo----",
    "oooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooo"
    "ooooooooooooooooooooooooooooooooooooooooooo-----ooooooooooooo---",
    "ooooooooo-------oooooooooo--SMMP--------------------------------"
    "----------------------------------------------------------------",
    "SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS"
    "SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSNNNNNNNNNN------",
    "SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS------------"
    "----------------------------------------------------------------",
    "MMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMM--MMMMMMMMMMMMMMMM"
    "MMMMMMM---------SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS",
    "SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS"
    "SSSS------------------------------------------------------------",
    "SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS"
    "SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS----------",
    "SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS--SSSSSSSSSSSSSSSSSSSSSSS"
    "SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSMMMMMSSSMMMMMM--------MMMMM",
    "MMMSSMMMMMMMSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSMMMMSSSSSSSSSSSSSSSSSS"
    "SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS---------------------",
    "SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS"
    "SSMMMS----------------------------------------------------------",
    "----------------------------------------------------------------"
    "NNNNNNNNNNNNNNNNNNNN------------NNNNNNNNNNNNNNNNNNNN------------",
    "SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS"
    "SSSSSSSSSSSSSSSSSSSSSSS---------NNNNNNNNNNNNNNNNNNNNNNNNN-------",
    "UUUUUUUUUUUUUUUUUUUUUUUUUUllllllllllllllllllllllllllUUUUUUUUUUUU"
    "UUUUUUUUUUUUUUlllllll-llllllllllllllllllUUUUUUUUUUUUUUUUUUUUUUUU",
    "UUllllllllllllllllllllllllllU-UU--U--UU--UUUU-UUUUUUUUllll-l-lll"
    "llll-lllllllllllUUUUUUUUUUUUUUUUUUUUUUUUUUllllllllllllllllllllll",
    "llllUU-UUUU--UUUUUUUU-UUUUUUU-llllllllllllllllllllllllllUU-UUUU-"
    "UUUUU-U---UUUUUUU-llllllllllllllllllllllllllUUUUUUUUUUUUUUUUUUUU",
    "UUUUUUllllllllllllllllllllllllllUUUUUUUUUUUUUUUUUUUUUUUUUUllllll"
    "llllllllllllllllllllUUUUUUUUUUUUUUUUUUUUUUUUUUllllllllllllllllll",
    "llllllllUUUUUUUUUUUUUUUUUUUUUUUUUUllllllllllllllllllllllllllUUUU"
    "UUUUUUUUUUUUUUUUUUUUUUllllllllllllllllllllllllllUUUUUUUUUUUUUUUU",
    "UUUUUUUUUUllllllllllllllllllllllllllll--UUUUUUUUUUUUUUUUUUUUUUUU"
    "USlllllllllllllllllllllllllSllllllUUUUUUUUUUUUUUUUUUUUUUUUUSllll",
    "lllllllllllllllllllllSllllllUUUUUUUUUUUUUUUUUUUUUUUUUSllllllllll"
    "lllllllllllllllSllllllUUUUUUUUUUUUUUUUUUUUUUUUUSllllllllllllllll",
    "lllllllllSllllllUUUUUUUUUUUUUUUUUUUUUUUUUSllllllllllllllllllllll"
    "lllSllllllUl--NNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNN",
    "MMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMSSSSMMMMM"
    "MMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMSSSSSSSSMSSSSSSSSSS",
    "SSSSMSSPPPPP---------------MMMMM-MMMMMMMMMMMMMMM----------------"
    "----------------------------------------------------------------",
    "llllllllllollllllllllllllllllll------llllll---------------------"
    "----------------------------------------------------------------",
    "MMMMMMM-MMMMMMMMMMMMMMMMM--MMMMMMM-MM-MMMMM-----oooooooooooooooo"
    "oooooooooooooooooooooooooooooooooooooooooooooo------------------",
    "---------------M------------------------------------------------"
    "----------------------------------------------------------------",
    "ooooooooooooooooooooooooooooooooooooooooooooo---MMMMMMMooooooo--"
    "NNNNNNNNNN----oS------------------------------------------------",
    "----------------ooooooooooooooooooooooooooooooM-----------------"
    "ooooooooooooooooooooooooooooooooooooooooooooMMMMNNNNNNNNNN-----S",
    "----------------------------------------------------------------"
    "----------------ooooooooooooooooooooooooooooMMMMNNNNNNNNNN------",
    "----------------------------------------------------------------"
    "----------------ooooooooooooooooooooooooooooooMMoNNNNNNNNNN----P",
    "----------------------------------------------------------------"
    "--------------------------------ooooooo-oooo-oo-ooooooooooooooo-",
    "oooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooo"
    "ooooo--NNNNNNNNNMMMMMMM-----------------------------------------",
    "UUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUllllllllllllllllllllllllllllll"
    "llllMMMMMMMo----NNNNNNNNNN----PP--------------------------------",
    "----------------------------------------------------------------"
    "-------------------------------------------------NNNNNNNNNNNNNNN",
    "NNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNSNNNSNNNN-----------"
    "----------------------------------------------------------------",
    "-NNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNSNNNNNNNNNNNNNNN--"
    "----------------------------------------------------------------",
    "oooo-ooooooooooooooooooooooooooo-oo-o--o-oooooooooo-oooo-o-o----"
    "--o----o-o-o-ooo-oo-o--o-o-o-o-o-oo-o--oooo-ooooooo-oooo-oooo-o-",
    "oooooooooo-ooooooooooooooooo-----ooo-ooooo-ooooooooooooooooo----"
    "------------------------------------------------SS--------------",
    "SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS----SSSSSSSSSSSSSSSS"
    "SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS",
    "SSSSSSSSSSSSSSSSSSSS------------SSSSSSSSSSSSSSS--SSSSSSSSSSSSSSS"
    "-SSSSSSSSSSSSSSS-SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS----------",
    "NNNNNNNNNNNNNSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS"
    "SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS",
    "SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS------------------"
    "--------------------------------------SSSSSSSSSSSSSSSSSSSSSSSSSS",
    "SSS-------------SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS----"
    "SSSSSSSSS-------SS--------------SSSSSS--------------------------",
    "SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS"
    "SSSSSSSSSSSSSSSSSSSSSSSS----SSSSSSSSSSSSSSSSS---SSSSSSSSSSSSS---",
    "SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS"
    "SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS----SSSSS",
    "SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS"
    "SSSSSSSSSSSSSSSSSSSSSSSSSS------SSSSSSSSSSSS----S---------------",
    "SSSSSSSSSSSS----SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS"
    "SSSSSSSS--------SSSSSSSSSS------SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS",
    "SSSSSSSS--------SSSSSSSSSSSSSSSSSSSSSSSSSSSSSS--SSSSSSSSSSSS----"
    "SS--------------------------------------------------------------",
    "SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS"
    "SSSSSSSSSSSSSSSSSSSS------------SSSSSSSSSSSSSS--SSSSSSSSSSSSS---",
    "SSSSSSSSSS-----SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS"
    "SSSSSSS-------SSSSSSSSSSSSSSS--SSSSSSSSSSS------SSSSSSSSS-------",
    "SSSSSSSSSSSSSSSSSSS-SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS"
    "SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSNNNNNNNNNN------",
    "hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh"
    "hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh--------------------------------",
    "hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh------"
    "hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh",
    "hhhhhhhhhhhhhhhhhhhhhhhhhhhhhh--hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh"
    "hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh",
    "hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh--------------hhhhhhhhhhhhhhhh"
    "hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh",
    "hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh"
    "hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh---------------hhhhhhhhhhhhhhhh",
    "hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh"
    "hhhhhhhhhhhhhhhhhhhhhhhhhhhhhh----------------------------------",
    "hhhhhhhhhhhhhhhhhhhhhhhhhhhhhh----------------------------------"
    "----------------------------------------------------------------",
    "hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh"
    "hhhhhhhhhhh-----hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh",
    "hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh----------------"
    "----------------------------------------------------------------",
};
/* clang-format on */
