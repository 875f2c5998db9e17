# How `make dft` has GPAW built: with the libraries of Debian, and with MPI, which only gpaw.run.launcher makes use of.
compiler = "mpicxx"
mpi = True
fftw = True
scalapack = False
libraries = ["xc", "openblas", "fftw3"]
