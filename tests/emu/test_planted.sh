#!/bin/sh
# tests/emu/test_planted.sh - the test of the kernel checker: every fault planted in kernels/cuda is caught.
# A build of the kernels has them all (PHX_PLANT), off; check_planted switches on the one that --plant names and
# ends at the first failure. Environment: PHX_CHECK_PLANTED, that program. Arguments: fault numbers, default all.
check=${PHX_CHECK_PLANTED:-build/check_planted}
wanted=" $* "
missed=0
n=0
while read -r plant op what; do
    [ "$wanted" = "  " ] || case $wanted in *" $plant "*) ;; *) continue ;; esac
    text=$("$check" --level emu --op "$op" --plant "$plant" 2>&1)
    n=$((n + 1))
    case $text in
    *FAILED* | *"emulator: "*) echo "$plant caught ($what): $(echo "$text" | grep -E 'FAILED|emulator: ' | head -n 1)" ;;
    *)
        echo "$plant MISSED ($op: $what): $text"
        missed=$((missed + 1))
        ;;
    esac
done <<'LIST'
1 product no barrier before the parts are added
2 product no barrier before the slots are written again
3 product the scale of the next block
4 product the last part of a block of columns is lost
5 product the lower rows of a tile take the upper rows' weights
6 product the steps of a lane's run are swapped
7 product the last column of a row is lost
8 ffn_in gate and up are swapped
9 ffn_in all rows of a tile take the scale of the first
10 leaf_sum an entry of the next token
11 leaf_sum the last pair of leaves is lost
12 leaf_sum pairs of leaves overlap
13 leaf_sum all leaves add up in the first
80 leaf_sum no barrier before the tokens of a tile are written again
81 leaf_sum all entries of a tile take the weight of the first
82 leaf_sum complete leaves are added to the first level whatever their own
14 product a stage is read before its copy is complete
15 product no barrier between the copies of other threads and the reading
86 product a stage is copied over before the barrier after its reading
16 product the scale of the first block for all
17 product chunks are written swapped and read straight
18 product a column past the tile is written
19 product_t the offset in the first scale block is forgotten
60 cache_write the scale of fp8 entries is doubled
61 attention the first scale of an fp8 entry for all groups
44 product_t chunks are written straight and read moved
45 product_t no barrier before a stage is written again
20 rms_norm the last step of a sum over lanes is lost
21 attention a new maximum does not scale what was summed
22 attention no barrier before the factors are written again
28 attention_expanded a new maximum does not scale what was summed
29 attention_expanded no barrier before the weights are written again
83 attention_expanded a row looks at the key past its last
84 attention_expanded a new maximum does not scale what was summed, in tiles
85 attention_expanded no barrier between the copies of values and their reading
40 attention a new maximum does not scale the parts merged before
41 attention the part that holds several splits is taken for one fewer
42 attention no barrier before the parts' maxima are read
43 attention the log-sum-exp lacks the logarithm
23 top_positions ties go to the higher position
24 index_scores negative dots count
25 index_round the scale is rounded down
26 route a group counts by its best expert alone
46 product two int4 numbers take each other's place
47 product the scales of a block of int4 groups in reverse
48 ffn_in the halves of an int4 word are swapped
49 product both groups of a stage take the scale of the first
70 product rounded rows are twice as small as their scales say
71 product scales of rounded rows lie row by row
72 product copied scales of W lie without gaps
73 product the scales of W and of rounded rows take each other's place
74 product the library is told of rows that are no multiple of four
75 product every number of rows takes the algorithm of the fewest
76 product the library has no workspace
27 vocab_top two logits take one place
30 count_tokens output tokens count as seen alone
31 choose a leaf that ran out of offers counts as used up
32 choose the mass of top_p is that of the whole row
33 penalise the bias of an id that is named again is lost
34 list_experts tokens past the listed ones are listed too
35 cache_write a row of no entry is written to the first
90 rms_norm every row adds what is added to the first
91 rope copies lie where the heads do
92 latent_write rows take the angles of their numbers
93 latent_write no barrier before the entry is written
94 product rounded results of all groups go to the first
95 index_scores weights of heads lack their factor
96 list_experts no warp counts what those before it have found
LIST
echo "$n faults, $missed missed"
[ "$n" -gt 0 ] && [ "$missed" -eq 0 ]
