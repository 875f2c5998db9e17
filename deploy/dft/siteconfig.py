# How `make dft` has GPAW built: serial, with Debian's libraries. For MPI: mpi = True and compiler = "mpicxx".
compiler = "g++"
mpi = False
fftw = True
scalapack = False
libraries = ["xc", "openblas", "fftw3"]
