;; The arithmetic of the page: a convolution with bias, then ReLU if asked for. A linear layer is a convolution of one pixel.
;;
;; Arrays are float32 [height, width, channels]. Weights are in groups of 8 output channels: 8 biases, then for each row
;; of the kernel, each of its pixels and each input channel the 8 weights. Four pixels of the output are made at a time, so
;; that each weight is loaded once for four of them. After the last pixel the last one is made again.
(module
  (memory (export "memory") 256) ;; of 64 KiB each
  (func (export "conv")
    (param $input i32) (param $weights i32) (param $output i32) ;; addresses
    (param $height i32) (param $width i32) (param $channels i32) ;; of the output; channels are a multiple of 8
    (param $rows i32) ;; of the kernel
    (param $run i32) ;; bytes of a row of the kernel: pixels, channels, 4
    (param $down i32) ;; bytes from a row of the input to the next
    (param $stride i32) ;; in rows and pixels
    (param $pixel i32) ;; bytes of a pixel of the input
    (param $relu i32) ;; 1: no result is below 0
    (local $group i32) (local $i i32) (local $last i32) (local $row i32) (local $end i32) (local $start i32)
    (local $a i32) (local $b i32) (local $c i32) (local $d i32) (local $w i32) (local $out i32) (local $floor v128)
    (local $a0 v128) (local $a1 v128) (local $b0 v128) (local $b1 v128)
    (local $c0 v128) (local $c1 v128) (local $d0 v128) (local $d1 v128) (local $w0 v128) (local $w1 v128) (local $x v128)
    (local.set $last (i32.sub (i32.mul (local.get $height) (local.get $width)) (i32.const 1)))
    (local.set $floor (f32x4.splat (select (f32.const 0) (f32.const -inf) (local.get $relu))))
    (local.set $start (local.get $weights))
    (loop $groups
      (local.set $i (i32.const 0))
      (loop $pixels
        (local.set $a (call $address (local.get $i) (local.get $last) (local.get $width) (local.get $input) (local.get $stride) (local.get $down) (local.get $pixel)))
        (local.set $b (call $address (i32.add (local.get $i) (i32.const 1)) (local.get $last) (local.get $width) (local.get $input) (local.get $stride) (local.get $down) (local.get $pixel)))
        (local.set $c (call $address (i32.add (local.get $i) (i32.const 2)) (local.get $last) (local.get $width) (local.get $input) (local.get $stride) (local.get $down) (local.get $pixel)))
        (local.set $d (call $address (i32.add (local.get $i) (i32.const 3)) (local.get $last) (local.get $width) (local.get $input) (local.get $stride) (local.get $down) (local.get $pixel)))
        (local.set $w (local.get $start))
        (local.set $a0 (v128.load (local.get $w)))
        (local.set $a1 (v128.load offset=16 (local.get $w)))
        (local.set $b0 (local.get $a0)) (local.set $b1 (local.get $a1))
        (local.set $c0 (local.get $a0)) (local.set $c1 (local.get $a1))
        (local.set $d0 (local.get $a0)) (local.set $d1 (local.get $a1))
        (local.set $w (i32.add (local.get $w) (i32.const 32)))
        (local.set $row (local.get $rows))
        (loop $kernel
          (local.set $end (i32.add (local.get $a) (local.get $run)))
          (loop $products
            (local.set $w0 (v128.load (local.get $w)))
            (local.set $w1 (v128.load offset=16 (local.get $w)))
            (local.set $x (v128.load32_splat (local.get $a)))
            (local.set $a0 (f32x4.add (local.get $a0) (f32x4.mul (local.get $x) (local.get $w0))))
            (local.set $a1 (f32x4.add (local.get $a1) (f32x4.mul (local.get $x) (local.get $w1))))
            (local.set $x (v128.load32_splat (local.get $b)))
            (local.set $b0 (f32x4.add (local.get $b0) (f32x4.mul (local.get $x) (local.get $w0))))
            (local.set $b1 (f32x4.add (local.get $b1) (f32x4.mul (local.get $x) (local.get $w1))))
            (local.set $x (v128.load32_splat (local.get $c)))
            (local.set $c0 (f32x4.add (local.get $c0) (f32x4.mul (local.get $x) (local.get $w0))))
            (local.set $c1 (f32x4.add (local.get $c1) (f32x4.mul (local.get $x) (local.get $w1))))
            (local.set $x (v128.load32_splat (local.get $d)))
            (local.set $d0 (f32x4.add (local.get $d0) (f32x4.mul (local.get $x) (local.get $w0))))
            (local.set $d1 (f32x4.add (local.get $d1) (f32x4.mul (local.get $x) (local.get $w1))))
            (local.set $b (i32.add (local.get $b) (i32.const 4)))
            (local.set $c (i32.add (local.get $c) (i32.const 4)))
            (local.set $d (i32.add (local.get $d) (i32.const 4)))
            (local.set $w (i32.add (local.get $w) (i32.const 32)))
            (br_if $products (i32.lt_u (local.tee $a (i32.add (local.get $a) (i32.const 4))) (local.get $end))))
          (local.set $end (i32.sub (local.get $down) (local.get $run))) ;; to the next row of the input
          (local.set $a (i32.add (local.get $a) (local.get $end)))
          (local.set $b (i32.add (local.get $b) (local.get $end)))
          (local.set $c (i32.add (local.get $c) (local.get $end)))
          (local.set $d (i32.add (local.get $d) (local.get $end)))
          (br_if $kernel (local.tee $row (i32.sub (local.get $row) (i32.const 1)))))
        (call $store (local.get $i) (local.get $last) (local.get $output) (local.get $group) (local.get $channels) (f32x4.max (local.get $a0) (local.get $floor)) (f32x4.max (local.get $a1) (local.get $floor)))
        (call $store (i32.add (local.get $i) (i32.const 1)) (local.get $last) (local.get $output) (local.get $group) (local.get $channels) (f32x4.max (local.get $b0) (local.get $floor)) (f32x4.max (local.get $b1) (local.get $floor)))
        (call $store (i32.add (local.get $i) (i32.const 2)) (local.get $last) (local.get $output) (local.get $group) (local.get $channels) (f32x4.max (local.get $c0) (local.get $floor)) (f32x4.max (local.get $c1) (local.get $floor)))
        (call $store (i32.add (local.get $i) (i32.const 3)) (local.get $last) (local.get $output) (local.get $group) (local.get $channels) (f32x4.max (local.get $d0) (local.get $floor)) (f32x4.max (local.get $d1) (local.get $floor)))
        (br_if $pixels (i32.le_u (local.tee $i (i32.add (local.get $i) (i32.const 4))) (local.get $last))))
      (local.set $start (local.get $w))
      (br_if $groups (i32.lt_u (local.tee $group (i32.add (local.get $group) (i32.const 8))) (local.get $channels)))))

  ;; The address in the input of the first product for pixel `i` of the output.
  (func $address (param $i i32) (param $last i32) (param $width i32) (param $input i32) (param $stride i32) (param $down i32) (param $pixel i32) (result i32)
    (local.set $i (select (local.get $i) (local.get $last) (i32.lt_u (local.get $i) (local.get $last))))
    (i32.add (local.get $input) (i32.mul (local.get $stride) (i32.add
      (i32.mul (i32.div_u (local.get $i) (local.get $width)) (local.get $down))
      (i32.mul (i32.rem_u (local.get $i) (local.get $width)) (local.get $pixel))))))

  ;; Store 8 channels of pixel `i` of the output.
  (func $store (param $i i32) (param $last i32) (param $output i32) (param $group i32) (param $channels i32) (param $low v128) (param $high v128)
    (local.set $i (select (local.get $i) (local.get $last) (i32.lt_u (local.get $i) (local.get $last))))
    (local.set $output (i32.add (local.get $output) (i32.mul (i32.const 4)
      (i32.add (i32.mul (local.get $i) (local.get $channels)) (local.get $group)))))
    (v128.store (local.get $output) (local.get $low))
    (v128.store offset=16 (local.get $output) (local.get $high)))
)
